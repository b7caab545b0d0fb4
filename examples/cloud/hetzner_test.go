package cloud_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/cloudapi"
)

const token = "LRK9DAWQ1ZAEFSrCNEEzLCUwhYX1U3g7wMg4dTlkkDC96fyDuyJ39nVbVjCKSDfj"

// The Floating IP of the tests, this server and another one.
const (
	floating = 4711
	here     = 42
	there    = 43
)

// hetzner returns a project in which the Floating IP is assigned to owner, and the hook for it.
func hetzner(t *testing.T, owner int64, change func(*cloudapi.HetznerConfig)) (*cloudapi.Hetzner, hook) {
	t.Helper()
	needTools(t)
	t.Parallel()
	config := cloudapi.HetznerConfig{Token: token, FloatingIPs: []cloudapi.FloatingIP{
		{ID: 4710, IP: "203.0.113.1", Server: there},
		{ID: floating, IP: address, Server: owner},
		{ID: 4712, IP: "2001:db8:1::/64", Server: there},
	}}
	if change != nil {
		change(&config)
	}
	project := cloudapi.NewHetzner(config)
	return project, hook{"hetzner.sh", map[string]string{
		"HCLOUD_TOKEN":          token,
		"HCLOUD_ENDPOINT":       serve(t, project) + "/v1",
		"HCLOUD_METADATA":       serve(t, cloudapi.Metadata(map[string]string{"instance-id": "42\n"})) + "/hetzner/v1/metadata",
		"HCLOUD_UNASSIGN_DELAY": "0",
		"HCLOUD_CONFIRM_DELAY":  "0",
		"HCLOUD_TIMEOUT":        processTime,
	}}
}

const assigned = "assigned Floating IP 4711 (203.0.113.10) to server 42"

func TestHetznerAssign(t *testing.T) {
	polled := func(c *cloudapi.HetznerConfig) { c.Polls = 2 }
	strict := func(c *cloudapi.HetznerConfig) { c.StrictAssign, c.Polls = true, 1 }
	many := func(c *cloudapi.HetznerConfig) {
		var others []cloudapi.FloatingIP
		for id := range int64(120) {
			others = append(others, cloudapi.FloatingIP{ID: id + 1, IP: "198.51.100.1"})
		}
		c.FloatingIPs = append(others, c.FloatingIPs...)
	}
	tests := map[string]struct {
		owner   int64
		change  func(*cloudapi.HetznerConfig)
		want    string
		changes int
	}{
		"from no server":      {0, nil, assigned, 1},
		"from another server": {there, nil, assigned, 1},
		"after polling":       {there, polled, assigned, 1},
		"on a later page":     {there, many, assigned, 1},
		"by unassigning it":   {there, strict, assigned, 3},
		"already assigned":    {here, nil, "Floating IP 4711 (203.0.113.10) is already assigned to server 42", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			project, hook := hetzner(t, test.owner, test.change)
			hook.succeeds(t, "acquired", test.want)
			require.EqualValues(t, here, project.Server(floating))
			require.EqualValues(t, there, project.Server(4710))
			require.Len(t, project.Changes(), test.changes)
		})
	}
}

func TestHetznerSettings(t *testing.T) {
	tests := map[string]struct{ settings []string }{
		"by ID":             {[]string{"HCLOUD_FLOATING_IP_ID", "4711"}},
		"own ID":            {[]string{"HCLOUD_SERVER_ID", "42", "HCLOUD_METADATA", "http://127.0.0.1:9/"}},
		"a token file":      {[]string{"HCLOUD_TOKEN", "", "HCLOUD_TOKEN_FILE", write(t, token+"\n")}},
		"without a newline": {[]string{"HCLOUD_TOKEN", "", "HCLOUD_TOKEN_FILE", write(t, token)}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			project, hook := hetzner(t, there, nil)
			hook.with(test.settings...).succeeds(t, "acquired", assigned)
			require.EqualValues(t, here, project.Server(floating))
		})
	}
}

// Of IPv6, the API has the network, so the ID is needed.
func TestHetznerIPv6(t *testing.T) {
	project, hook := hetzner(t, there, nil)
	hook = hook.with("CONSUL_VIP_HOOK_ADDRESS", "2001:db8:1::1")
	hook.fails(t, "acquired", "set HCLOUD_FLOATING_IP_ID for IPv6")
	require.Empty(t, project.Changes())
	hook.with("HCLOUD_FLOATING_IP_ID", "4712").succeeds(t, "acquired", "assigned Floating IP 4712 (2001:db8:1::1) to server 42")
	require.EqualValues(t, here, project.Server(4712))
}

// The hook reports each failure in one line, and succeeds when the agent runs it again after
// the fault has gone.
func TestHetznerFailures(t *testing.T) {
	reading := append([]fault{
		{cloudapi.TooManyRequests, "listing the Floating IPs: HTTP 429: limit of 3600 requests per hour reached (rate_limit_exceeded)"},
		{cloudapi.ServerError, "listing the Floating IPs: HTTP 500: error within the API backend (server_error)"},
	}, failures...)
	changing := []fault{
		{cloudapi.Locked, "assigning Floating IP 4711 (203.0.113.10) to server 42: HTTP 423: there is already an action running (locked)"},
		{cloudapi.FailedTask, "assigning Floating IP 4711 (203.0.113.10) to server 42: Action failed (action_failed)"},
	}
	for event, tests := range map[string][]fault{"acquired": append(reading, changing...), "lost": changing} {
		for _, test := range tests {
			t.Run(event+"/"+string(test.fault), func(t *testing.T) {
				owner, want := int64(there), test.want
				if event == "lost" {
					owner = here
					want = strings.ReplaceAll(want, "assigning Floating IP 4711 (203.0.113.10) to", "unassigning Floating IP 4711 (203.0.113.10) from")
				}
				project, hook := hetzner(t, owner, nil)
				project.SetFault(test.fault)
				hook.fails(t, event, want)
				require.Equal(t, owner, project.Server(floating))
				project.SetFault(cloudapi.NoFault)
				output, ok := hook.run(t, event)
				require.True(t, ok, output)
				require.NotEqual(t, owner, project.Server(floating))
			})
		}
	}
}

// An action that does not end blocks the address. The next run fails too, and one after the
// action has ended finds the address where it should be.
func TestHetznerEndlessAction(t *testing.T) {
	project, hook := hetzner(t, there, nil)
	project.SetFault(cloudapi.EndlessTask)
	hook.with("HCLOUD_TIMEOUT", "70", "PATH", fastClock(t)).fails(t, "acquired", "to server 42: action 1 is still running")
	hook.fails(t, "acquired", "HTTP 423")
	project.SetServer(floating, here)
	project.SetFault(cloudapi.NoFault)
	hook.succeeds(t, "acquired", "Floating IP 4711 (203.0.113.10) is already assigned to server 42")
}

// The time can also end between two requests.
func TestHetznerTimeout(t *testing.T) {
	project, hook := hetzner(t, there, nil)
	hook.with("HCLOUD_TIMEOUT", "20", "PATH", fastClock(t)).fails(t, "acquired", "to server 42: no time left for this request")
	require.Empty(t, project.Changes())
}

func TestHetznerMistakes(t *testing.T) {
	needTools(t)
	page := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<html>\nnot a metadata service"))
	}))
	onlyCurl := t.TempDir()
	for _, name := range []string{"curl", "date"} {
		path, err := exec.LookPath(name)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(path, filepath.Join(onlyCurl, name)))
	}
	tests := map[string]struct {
		settings []string
		want     string
	}{
		"a wrong token":          {[]string{"HCLOUD_TOKEN", "wrong"}, "listing the Floating IPs: HTTP 401: unable to authenticate (unauthorized)"},
		"no token file":          {[]string{"HCLOUD_TOKEN", "", "HCLOUD_TOKEN_FILE", "/nonexistent"}, "the token file /nonexistent is missing or not readable"},
		"an empty token file":    {[]string{"HCLOUD_TOKEN", "", "HCLOUD_TOKEN_FILE", write(t, "")}, "the API token is empty"},
		"a token with quotes":    {[]string{"HCLOUD_TOKEN", "a\"\noutput = \"/tmp/x"}, "the API token is empty or has characters"},
		"no API":                 {[]string{"HCLOUD_ENDPOINT", refusing(t) + "/v1"}, "listing the Floating IPs: Failed to connect to 127.0.0.1"},
		"no metadata":            {[]string{"HCLOUD_METADATA", refusing(t)}, "the metadata service does not tell the server's ID: Failed to connect"},
		"a page for metadata":    {[]string{"HCLOUD_METADATA", page}, "the metadata service does not answer with the server's ID; set HCLOUD_SERVER_ID"},
		"another project":        {[]string{"CONSUL_VIP_HOOK_ADDRESS", "203.0.113.99"}, "no Floating IP of this project has the address 203.0.113.99"},
		"an unknown Floating IP": {[]string{"HCLOUD_FLOATING_IP_ID", "1"}, "reading Floating IP 1: HTTP 404: entity not found (not_found)"},
		"another's Floating IP":  {[]string{"HCLOUD_FLOATING_IP_ID", "4710"}, "Floating IP 4710 is 203.0.113.1, not 203.0.113.10"},
		"no jq":                  {[]string{"PATH", onlyCurl}, "jq is not installed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			project, hook := hetzner(t, there, nil)
			hook.with(test.settings...).fails(t, "acquired", test.want)
			require.Empty(t, project.Changes())
		})
	}
}

func TestHetznerUnassign(t *testing.T) {
	const untouched = "Floating IP 4711 (203.0.113.10) is not assigned to server 42"
	for _, event := range []string{"released", "lost", "conflict"} {
		t.Run(event, func(t *testing.T) {
			project, hook := hetzner(t, here, func(c *cloudapi.HetznerConfig) { c.Polls = 1 })
			hook.succeeds(t, event, "unassigned Floating IP 4711 (203.0.113.10) from server 42")
			require.Zero(t, project.Server(floating))
			hook.succeeds(t, event, untouched)
			require.Len(t, project.Changes(), 1)
		})
		t.Run(event+" after the new owner has it", func(t *testing.T) {
			project, hook := hetzner(t, there, nil)
			hook.succeeds(t, event, untouched)
			require.EqualValues(t, there, project.Server(floating))
			require.Empty(t, project.Changes())
		})
	}
}

// The new owner takes the address over in the delay.
func TestHetznerUnassignDelay(t *testing.T) {
	project, hook := hetzner(t, here, nil)
	started := time.Now()
	output := make(chan string, 1)
	go func() {
		out, _ := hook.with("HCLOUD_UNASSIGN_DELAY", "2").command(t.Context(), "released").CombinedOutput()
		output <- string(out)
	}()
	project.SetServer(floating, there)
	require.Equal(t, "Floating IP 4711 (203.0.113.10) is not assigned to server 42\n", <-output)
	require.GreaterOrEqual(t, time.Since(started), 2*time.Second)
	require.Empty(t, project.Changes())
	require.Len(t, project.Requests(), 1)
}

// The owner before may unassign the address although another one has it by now.
func TestHetznerConfirm(t *testing.T) {
	project, hook := hetzner(t, there, nil)
	hook = hook.with("CONSUL_VIP_HOOK_PREVIOUS_NODE", "h2")
	hook.succeeds(t, "acquired", assigned)

	project.SetServer(floating, there)
	output := make(chan string, 1)
	go func() {
		out, _ := hook.with("HCLOUD_CONFIRM_DELAY", "3").command(t.Context(), "acquired").CombinedOutput()
		output <- string(out)
	}()
	require.Eventually(t, func() bool { return project.Server(floating) == here }, 20*time.Second, 10*time.Millisecond)
	project.SetServer(floating, 0)
	require.Equal(t, "assigning Floating IP 4711 (203.0.113.10) to server 42: it was assigned to no server afterwards\n", <-output)
	hook.succeeds(t, "acquired", assigned)
}

func TestHetznerSecrets(t *testing.T) {
	t.Run("all programs", func(t *testing.T) {
		_, hook := hetzner(t, there, func(c *cloudapi.HetznerConfig) { c.Polls = 1 })
		testSecrets(t, hook, token)
	})
	t.Run("while the API hangs", func(t *testing.T) {
		project, hook := hetzner(t, there, nil)
		testSecretWhileHanging(t, hook, project, token, hook.env["HCLOUD_ENDPOINT"])
	})
}
