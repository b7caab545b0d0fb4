package cloud_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/cloudapi"
)

// The Elastic IP of the tests, this instance and two others.
const (
	accessKey = "EXO29147e9f89102b7ac1e88514"
	secretKey = "Tq3-fV0k_A9%s\\n\"$HOME' ü" // characters that a shell could trip over
	elastic   = "a02baf5a-a3e4-49a0-857b-8a08d276c1c0"
	mine      = "11111111-1111-4111-8111-111111111111"
	second    = "22222222-2222-4222-8222-222222222222"
	third     = "33333333-3333-4333-8333-333333333333"
)

// exoscale returns a zone in which the Elastic IP is attached to these instances, and the hook
// for it.
func exoscale(t *testing.T, attached []string, change func(*cloudapi.ExoscaleConfig)) (*cloudapi.Exoscale, hook) {
	t.Helper()
	needTools(t)
	t.Parallel()
	config := cloudapi.ExoscaleConfig{
		Key: accessKey, Secret: secretKey,
		Instances:  []string{second, mine, third},
		ElasticIPs: map[string]string{elastic: address, "other": "203.0.113.1"},
		Attached:   map[string][]string{elastic: attached, "other": {second, third}},
	}
	if change != nil {
		change(&config)
	}
	zone := cloudapi.NewExoscale(config)
	metadata := cloudapi.Metadata(map[string]string{"instance-id": mine, "availability-zone": "ch-gva-2"})
	return zone, hook{"exoscale.sh", map[string]string{
		"EXOSCALE_API_KEY":      accessKey,
		"EXOSCALE_API_SECRET":   config.Secret,
		"EXOSCALE_API_ENDPOINT": serve(t, zone) + "/v2",
		"EXOSCALE_METADATA":     serve(t, metadata) + "/latest/meta-data",
		"EXOSCALE_TIMEOUT":      processTime,
	}}
}

const attachedHere = "attached Elastic IP 203.0.113.10 to instance " + mine

func TestExoscaleAttach(t *testing.T) {
	const already = "Elastic IP 203.0.113.10 is already attached to instance " + mine
	polled := func(c *cloudapi.ExoscaleConfig) { c.Polls = 2 }
	longSecret := func(c *cloudapi.ExoscaleConfig) { c.Secret = strings.Repeat("a long secret ", 10) }
	block := func(c *cloudapi.ExoscaleConfig) { c.Secret = strings.Repeat("s", 64) }
	tests := map[string]struct {
		attached []string
		change   func(*cloudapi.ExoscaleConfig)
		want     string
		changes  int
	}{
		"to the first instance":   {nil, nil, attachedHere, 1},
		"after polling":           {nil, polled, attachedHere, 1},
		"a secret of a block":     {nil, block, attachedHere, 1},
		"a longer secret":         {nil, longSecret, attachedHere, 1},
		"from a dead instance":    {[]string{second}, polled, attachedHere + ", detached it from " + second, 2},
		"from all others":         {[]string{third, second}, nil, attachedHere + ", detached it from " + second + ", detached it from " + third, 3},
		"already attached":        {[]string{mine}, nil, already, 0},
		"already, and to another": {[]string{mine, third}, nil, already + ", detached it from " + third, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			zone, hook := exoscale(t, test.attached, test.change)
			hook.succeeds(t, "acquired", test.want)
			require.Equal(t, []string{mine}, zone.Attached(elastic))
			require.Equal(t, []string{second, third}, zone.Attached("other"))
			require.Len(t, zone.Changes(), test.changes)
		})
	}
}

func TestExoscaleSettings(t *testing.T) {
	const gone = "44444444-4444-4444-8444-444444444444"
	tests := map[string]struct{ settings []string }{
		"by ID":            {[]string{"EXOSCALE_ELASTIC_IP_ID", elastic}},
		"own ID and zone":  {[]string{"EXOSCALE_INSTANCE_ID", mine, "EXOSCALE_ZONE", "ch-gva-2", "EXOSCALE_METADATA", "http://127.0.0.1:9"}},
		"a file":           {[]string{"EXOSCALE_API_KEY", "", "EXOSCALE_CREDENTIALS_FILE", write(t, accessKey+"\n"+secretKey+"\n")}},
		"listed instances": {[]string{"EXOSCALE_INSTANCES", mine + " " + gone + " " + second}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			zone, hook := exoscale(t, []string{second}, nil)
			hook.with(test.settings...).succeeds(t, "acquired", attachedHere+", detached it from "+second)
			require.Equal(t, []string{mine}, zone.Attached(elastic))
		})
	}
}

// An instance that is not listed keeps the address.
func TestExoscaleListedInstances(t *testing.T) {
	zone, hook := exoscale(t, []string{third}, nil)
	hook.with("EXOSCALE_INSTANCES", mine+" "+second).succeeds(t, "acquired", attachedHere)
	require.Equal(t, []string{mine, third}, zone.Attached(elastic))
	require.False(t, slices.ContainsFunc(zone.Requests(), func(r cloudapi.Request) bool { return r.Path == "/v2/instance" }))
}

// The hook reports each failure in one line, and succeeds when the agent runs it again after
// the fault has gone.
func TestExoscaleFailures(t *testing.T) {
	const attaching = "attaching Elastic IP 203.0.113.10 to instance " + mine + ": "
	reading := append([]fault{
		{cloudapi.TooManyRequests, "listing the Elastic IPs: HTTP 429: limit of 3600 requests per hour reached"},
		{cloudapi.ServerError, "listing the Elastic IPs: HTTP 500: error within the API backend"},
	}, failures...)
	changing := []fault{
		{cloudapi.Locked, attaching + "HTTP 423: there is already an action running"},
		{cloudapi.FailedTask, attaching + "the operation ended with failure: the instance is busy (busy)"},
	}
	for event, tests := range map[string][]fault{"acquired": append(reading, changing...), "lost": changing} {
		for _, test := range tests {
			t.Run(event+"/"+string(test.fault), func(t *testing.T) {
				before, after, want := []string{second}, []string{mine}, test.want
				if event == "lost" {
					before, after = []string{mine, second}, []string{second}
					want = strings.ReplaceAll(want, "attaching Elastic IP 203.0.113.10 to", "detaching Elastic IP 203.0.113.10 from")
				}
				zone, hook := exoscale(t, before, nil)
				zone.SetFault(test.fault)
				hook.fails(t, event, want)
				require.Equal(t, before, zone.Attached(elastic))
				zone.SetFault(cloudapi.NoFault)
				output, ok := hook.run(t, event)
				require.True(t, ok, output)
				require.Equal(t, after, zone.Attached(elastic))
			})
		}
	}
}

func TestExoscaleEndlessOperation(t *testing.T) {
	zone, hook := exoscale(t, nil, nil)
	zone.SetFault(cloudapi.EndlessTask)
	hook.with("EXOSCALE_TIMEOUT", "60", "PATH", fastClock(t)).fails(t, "acquired", "operation 00000000-0000-4000-8000-000000000000 is still pending")
	require.Empty(t, zone.Attached(elastic))
}

func TestExoscaleMistakes(t *testing.T) {
	tests := map[string]struct {
		settings []string
		want     string
	}{
		"a wrong secret":      {[]string{"EXOSCALE_API_SECRET", "wrong"}, "listing the Elastic IPs: HTTP 403: invalid request signature"},
		"a wrong key":         {[]string{"EXOSCALE_API_KEY", "wrong"}, "listing the Elastic IPs: HTTP 403: invalid request signature"},
		"a key with quotes":   {[]string{"EXOSCALE_API_KEY", "a\"b"}, "the API key is empty or has characters"},
		"no file":             {[]string{"EXOSCALE_API_KEY", "", "EXOSCALE_CREDENTIALS_FILE", "/nonexistent"}, "the credentials file /nonexistent is missing or not readable"},
		"a file of one line":  {[]string{"EXOSCALE_API_KEY", "", "EXOSCALE_CREDENTIALS_FILE", write(t, accessKey)}, "the API secret is empty"},
		"no API":              {[]string{"EXOSCALE_API_ENDPOINT", refusing(t) + "/v2"}, "listing the Elastic IPs: Failed to connect to 127.0.0.1"},
		"no metadata":         {[]string{"EXOSCALE_METADATA", refusing(t)}, "the metadata service does not tell instance-id: Failed to connect"},
		"unknown metadata":    {[]string{"EXOSCALE_METADATA", serve(t, cloudapi.Metadata(nil))}, "the metadata service does not answer with instance-id"},
		"another zone":        {[]string{"CONSUL_VIP_HOOK_ADDRESS", "203.0.113.99"}, "no Elastic IP of zone ch-gva-2 has the address 203.0.113.99"},
		"an unknown instance": {[]string{"EXOSCALE_INSTANCE_ID", "unknown"}, "attaching Elastic IP 203.0.113.10 to instance unknown: HTTP 404: entity not found"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			zone, hook := exoscale(t, []string{second}, nil)
			hook.with(test.settings...).fails(t, "acquired", test.want)
			require.Equal(t, []string{second}, zone.Attached(elastic))
		})
	}
}

// The previous owner detaches the address from itself between two requests of the new owner. The
// API refuses the second detach, but the address is where it should be.
func TestExoscaleDetachedMeanwhile(t *testing.T) {
	zone, hook := exoscale(t, []string{second}, nil)
	endpoint := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ":detach") {
			zone.SetAttached(elastic, mine)
		}
		zone.ServeHTTP(w, r)
	}))
	hook.with("EXOSCALE_API_ENDPOINT", endpoint+"/v2").succeeds(t, "acquired", attachedHere)
	require.Equal(t, []string{mine}, zone.Attached(elastic))
	require.Len(t, zone.Changes(), 2)
}

func TestExoscaleDetach(t *testing.T) {
	const untouched = "Elastic IP 203.0.113.10 is not attached to instance " + mine
	for _, event := range []string{"released", "lost", "conflict"} {
		t.Run(event, func(t *testing.T) {
			zone, hook := exoscale(t, []string{mine, second}, func(c *cloudapi.ExoscaleConfig) { c.Polls = 1 })
			hook.succeeds(t, event, "detached Elastic IP 203.0.113.10 from instance "+mine)
			require.Equal(t, []string{second}, zone.Attached(elastic))
			hook.succeeds(t, event, untouched)
			require.Len(t, zone.Changes(), 1)
		})
		t.Run(event+" after the new owner has it", func(t *testing.T) {
			zone, hook := exoscale(t, []string{second}, nil)
			hook.succeeds(t, event, untouched)
			require.Equal(t, []string{second}, zone.Attached(elastic))
			require.Empty(t, zone.Changes())
		})
	}
}

func TestExoscaleSecrets(t *testing.T) {
	t.Run("all programs", func(t *testing.T) {
		_, hook := exoscale(t, []string{second}, func(c *cloudapi.ExoscaleConfig) { c.Polls = 1 })
		testSecrets(t, hook, secretKey)
	})
	t.Run("while the API hangs", func(t *testing.T) {
		zone, hook := exoscale(t, nil, nil)
		testSecretWhileHanging(t, hook, zone, secretKey, hook.env["EXOSCALE_API_ENDPOINT"])
	})
}
