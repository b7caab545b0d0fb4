package cloudapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ExoscaleConfig describes a zone. ElasticIPs has the address of each Elastic IP's ID.
// Attached has the IDs of the instances that an Elastic IP is attached to. Polls is how often
// an operation must be read until it has ended.
type ExoscaleConfig struct {
	Key, Secret string
	Instances   []string
	ElasticIPs  map[string]string
	Attached    map[string][]string
	Polls       int
}

// Exoscale is the API of a zone of Exoscale (https://community.exoscale.com/reference/api/),
// below /v2. The documentation does not say how it answers to a wrong signature, to attaching
// what is attached and to detaching what is not; here these are errors. Its methods may be
// called concurrently.
type Exoscale struct {
	recorder
	config     ExoscaleConfig
	operations []*operation
	mux        *http.ServeMux
}

// operation attaches or detaches an Elastic IP when it ends.
type operation struct {
	command       string
	left          int
	state         string
	eip, instance string
}

// NewExoscale returns an API with one zone.
func NewExoscale(config ExoscaleConfig) *Exoscale {
	attached := make(map[string][]string)
	for eip, instances := range config.Attached {
		attached[eip] = slices.Clone(instances)
	}
	config.Attached = attached
	e := &Exoscale{config: config, mux: http.NewServeMux()}
	e.mux.HandleFunc("GET /v2/elastic-ip", e.listAddresses)
	e.mux.HandleFunc("GET /v2/instance", e.listInstances)
	e.mux.HandleFunc("GET /v2/instance/{id}", e.getInstance)
	e.mux.HandleFunc("PUT /v2/elastic-ip/{target}", e.start)
	e.mux.HandleFunc("GET /v2/operation/{id}", e.readOperation)
	e.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { exoscaleError(w, notFound) })
	return e
}

// Attached returns the IDs of the instances that the Elastic IP is attached to, in order.
func (e *Exoscale) Attached(eip string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(slices.Values(e.config.Attached[eip]))
}

// SetAttached attaches the Elastic IP to these instances and to no other, at once.
func (e *Exoscale) SetAttached(eip string, instances ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.config.Attached[eip] = slices.Clone(instances)
}

func exoscaleError(w http.ResponseWriter, e apiError) {
	answerJSON(w, e.status, map[string]any{"message": e.message})
}

func (e *Exoscale) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, fault := e.record(r)
	if misbehave(w, r, fault, exoscaleError) {
		return
	}
	if err := e.authenticate(r, body); err != nil {
		exoscaleError(w, apiError{http.StatusForbidden, "", err.Error()})
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mux.ServeHTTP(w, r)
}

// authenticate checks the signature of a request without query parameters, which the hook
// does not use.
func (e *Exoscale) authenticate(r *http.Request, body []byte) error {
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if scheme != "EXO2-HMAC-SHA256" {
		return fmt.Errorf("unknown authentication scheme %q", scheme)
	}
	values := make(map[string]string)
	for pair := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	expires, err := strconv.ParseInt(values["expires"], 10, 64)
	if err != nil || time.Now().After(time.Unix(expires, 0)) {
		return fmt.Errorf("the request has expired")
	}
	want := Signature(e.config.Secret, r.Method+" "+r.URL.EscapedPath(), string(body), "", expires)
	if values["credential"] != e.config.Key || !hmac.Equal([]byte(want), []byte(values["signature"])) {
		return fmt.Errorf("invalid request signature")
	}
	return nil
}

// Signature signs a request as https://openapi-v2.exoscale.com/topic/topic-api-request-signature
// says. Line is its method and path, query the values of its parameters without a separator,
// and expires a Unix time in seconds.
func Signature(secret, line, body, query string, expires int64) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%s\n%s\n%s\n%s\n%d", line, body, query, "", expires)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func (e *Exoscale) listAddresses(w http.ResponseWriter, _ *http.Request) {
	list := []any{}
	for _, id := range slices.Sorted(maps.Keys(e.config.ElasticIPs)) {
		list = append(list, map[string]any{"id": id, "ip": e.config.ElasticIPs[id], "addressfamily": "inet4", "description": "a \"description\""})
	}
	answerJSON(w, http.StatusOK, map[string]any{"elastic-ips": list})
}

func (e *Exoscale) listInstances(w http.ResponseWriter, _ *http.Request) {
	list := []any{}
	for _, id := range e.config.Instances {
		list = append(list, map[string]any{"id": id, "name": "name", "state": "running", "template": map[string]any{"id": "template"}})
	}
	answerJSON(w, http.StatusOK, map[string]any{"instances": list})
}

func (e *Exoscale) getInstance(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !slices.Contains(e.config.Instances, id) {
		exoscaleError(w, notFound)
		return
	}
	instance := map[string]any{"id": id, "name": "name", "state": "running"}
	refs := []any{}
	for _, eip := range slices.Sorted(maps.Keys(e.config.Attached)) {
		if slices.Contains(e.config.Attached[eip], id) {
			refs = append(refs, map[string]any{"id": eip})
		}
	}
	if len(refs) > 0 {
		instance["elastic-ips"] = refs
	}
	answerJSON(w, http.StatusOK, instance)
}

func (e *Exoscale) start(w http.ResponseWriter, r *http.Request) {
	var body struct{ Instance struct{ ID string } }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		exoscaleError(w, apiError{http.StatusBadRequest, "", "malformed JSON"})
		return
	}
	eip, command, _ := strings.Cut(r.PathValue("target"), ":")
	_, known := e.config.ElasticIPs[eip]
	attached := slices.Contains(e.config.Attached[eip], body.Instance.ID)
	switch {
	case !known || !slices.Contains(e.config.Instances, body.Instance.ID) || command != "attach" && command != "detach":
		exoscaleError(w, notFound)
		return
	case attached == (command == "attach"):
		exoscaleError(w, apiError{http.StatusConflict, "", "the Elastic IP cannot be " + command + "ed"})
		return
	}
	e.operations = append(e.operations, &operation{command, e.config.Polls, "pending", eip, body.Instance.ID})
	e.progress(w, len(e.operations)-1)
}

// operationID makes the index of an operation a UUID.
func operationID(index int) string {
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", index)
}

func (e *Exoscale) readOperation(w http.ResponseWriter, r *http.Request) {
	for index := range e.operations {
		if operationID(index) == r.PathValue("id") {
			e.progress(w, index)
			return
		}
	}
	exoscaleError(w, notFound)
}

// progress ends an operation that has been read often enough, and answers with it.
func (e *Exoscale) progress(w http.ResponseWriter, index int) {
	o := e.operations[index]
	switch {
	case o.state != "pending" || e.fault == EndlessTask:
	case o.left > 0:
		o.left--
	case e.fault == FailedTask:
		o.state = "failure"
	default:
		o.state = "success"
		others := slices.DeleteFunc(e.config.Attached[o.eip], func(id string) bool { return id == o.instance })
		if o.command == "attach" {
			others = append(others, o.instance)
		}
		e.config.Attached[o.eip] = others
	}
	result := map[string]any{"id": operationID(index), "state": o.state, "reference": map[string]any{"id": o.eip, "command": "get-elastic-ip"}}
	if o.state == "failure" {
		result["reason"], result["message"] = "busy", "the instance\nis busy"
	}
	answerJSON(w, http.StatusOK, result)
}
