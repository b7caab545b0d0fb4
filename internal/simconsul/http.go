package simconsul

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// AuthorizePath is where Consul tells what an ACL token may do.
const AuthorizePath = "/v1/internal/acl/authorize"

// writes reports whether a request changes something.
func writes(q Request) bool {
	return q.Method != http.MethodGet && q.Path != AuthorizePath && !strings.HasPrefix(q.Path, "/v1/session/renew/")
}

// endpoint is one of Consul's paths.
type endpoint struct {
	path   string // a prefix if it ends with a slash
	method string // "": the endpoint looks at it itself
	serve  func(a *Agent, ctx context.Context, r *run, rest string, q Request) *answer
}

var endpoints = []endpoint{
	{"/v1/kv/", "", (*Agent).kv},
	{"/v1/txn", http.MethodPut, (*Agent).txn},
	{"/v1/agent/check/update/", http.MethodPut, (*Agent).checkUpdate},
	{"/v1/session/renew/", http.MethodPut, (*Agent).sessionRenew},
	{"/v1/session/info/", http.MethodGet, (*Agent).sessionInfo},
	{"/v1/session/create", http.MethodPut, (*Agent).sessionCreate},
	{"/v1/session/destroy/", http.MethodPut, (*Agent).sessionDestroy},
	{"/v1/session/node/", http.MethodGet, (*Agent).sessionsOfNode},
	{"/v1/session/list", http.MethodGet, (*Agent).sessionList},
	{"/v1/agent/self", http.MethodGet, (*Agent).self},
	{"/v1/agent/service/register", http.MethodPut, (*Agent).serviceRegister},
	{"/v1/agent/service/deregister/", http.MethodPut, (*Agent).serviceDeregister},
	{"/v1/agent/check/pass/", http.MethodPut, (*Agent).checkPass},
	{"/v1/status/leader", http.MethodGet, (*Agent).statusLeader},
}

// handle serves a request.
func (a *Agent) handle(ctx context.Context, r *run, q Request) *answer {
	switch q.Path {
	case AuthorizePath:
		return a.c.authorize(q)
	case "/v1/acl/token/self":
		return a.c.tokenSelf(q)
	}
	for _, e := range endpoints {
		rest, ok := strings.CutPrefix(q.Path, e.path)
		switch {
		case !ok || rest != "" && !strings.HasSuffix(e.path, "/"):
			continue
		case e.method != "" && e.method != q.Method:
			return notAllowed(q, e.method)
		}
		return e.serve(a, ctx, r, rest, q)
	}
	return plain(http.StatusNotFound, "Invalid URL path: not a recognized HTTP API endpoint\n")
}

func notAllowed(q Request, method string) *answer {
	a := plain(http.StatusMethodNotAllowed, "method "+q.Method+" not allowed")
	a.header.Set("Allow", "OPTIONS,"+method)
	return a
}

// consulError is an error in Consul's own words.
type consulError string

func (e consulError) Error() string { return string(e) }

// httpError is an error with its own status.
type httpError struct {
	status int
	reason string
}

func (e httpError) Error() string { return e.reason }

// failure is Consul's answer to an error.
func failure(err error) *answer {
	var own httpError
	status := http.StatusInternalServerError
	switch {
	case errors.As(err, &own):
		status = own.status
	case errors.Is(err, errDenied) || errors.Is(err, errUnknownToken):
		status = http.StatusForbidden
	}
	return plain(status, err.Error())
}

func ok200(body any) *answer {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // all bodies are our own
	}
	return asJSON(http.StatusOK, text)
}

func asJSON(status int, text []byte) *answer {
	return &answer{status, http.Header{"Content-Type": {"application/json"}}, text}
}

// empty is the answer of an endpoint that says nothing.
func empty(status int) *answer { return &answer{status, http.Header{}, nil} }

// meta is what Consul says in the header of a read.
type meta struct {
	index    uint64
	filtered bool
}

func (m meta) set(a *answer) *answer {
	a.header["X-Consul-Index"] = []string{strconv.FormatUint(max(m.index, 1), 10)}
	a.header["X-Consul-Lastcontact"] = []string{"0"}
	a.header["X-Consul-Knownleader"] = []string{"true"}
	if m.filtered {
		a.header["X-Consul-Results-Filtered-By-Acls"] = []string{"true"}
	}
	return a
}
