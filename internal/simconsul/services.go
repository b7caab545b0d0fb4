package simconsul

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"
)

// self serves what the agent says about itself.
func (a *Agent) self(_ context.Context, _ *run, _ string, q Request) *answer {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	may := func(t Token) bool { return allows(t.Agent, "read") }
	if err := denied(a.c.denies(q.Token, may), "agent:read", a.Node); err != nil {
		return failure(err)
	}
	return ok200(map[string]any{
		"Config":      map[string]any{"Datacenter": "dc1", "NodeName": a.Node, "Server": false, "Version": "1.22.3"},
		"DebugConfig": map[string]any{"LeaveOnTerm": a.LeaveOnTerm},
		"Member":      map[string]any{"Name": a.Node},
	})
}

func (a *Agent) statusLeader(ctx context.Context, r *run, _ string, _ Request) *answer {
	if err := a.path(ctx, r); err != nil {
		return failure(err)
	}
	if !a.c.Leader() {
		return ok200("")
	}
	return ok200("10.0.0.1:8300")
}

// serviceBody is what a client sends to register a service.
type serviceBody struct {
	ID, Name string
	Check    *checkBody
	Checks   []*checkBody
}

type checkBody struct {
	CheckID, TTL, Status           string
	DeregisterCriticalServiceAfter string
}

// decode returns the service and its TTL check; other checks are not simulated.
func (b serviceBody) decode() (service, *check, error) {
	s := service{id: b.ID, name: b.Name}
	if s.id == "" {
		s.id = b.Name
	}
	if b.Check == nil && len(b.Checks) > 0 {
		b.Check = b.Checks[0]
	}
	switch {
	case b.Name == "":
		return s, nil, httpError{http.StatusBadRequest, "Missing service name"}
	case b.Check == nil:
		return s, nil, nil
	}
	k := &check{id: b.Check.CheckID, service: s.id, status: b.Check.Status}
	if k.id == "" {
		k.id = "service:" + s.id
	}
	switch k.status {
	case "":
		k.status = api.HealthCritical
	case api.HealthPassing, api.HealthWarning, api.HealthCritical:
	default:
		return s, nil, httpError{http.StatusBadRequest, "Status for checks must 'passing', 'warning', 'critical'"}
	}
	var err error
	if k.ttl, err = time.ParseDuration(b.Check.TTL); err != nil {
		return s, nil, httpError{http.StatusBadRequest, fmt.Sprintf("Request decode failed: %v", err)}
	}
	k.reap, _ = time.ParseDuration(b.Check.DeregisterCriticalServiceAfter)
	return s, k, nil
}

// serviceRegister serves the registration of a service with the local agent. The
// servers learn of it a moment later.
func (a *Agent) serviceRegister(ctx context.Context, r *run, _ string, q Request) *answer {
	var body serviceBody
	if err := json.Unmarshal(q.Body, &body); err != nil {
		return plain(http.StatusBadRequest, "Request decode failed: "+err.Error())
	}
	s, k, err := body.decode()
	if err != nil {
		return failure(err)
	}
	s.token = q.Token
	return a.locally(ctx, r, func() error {
		may := func(t Token) bool { return allows(t.Services, "write") }
		if err := denied(a.c.denies(q.Token, may), "service:write", s.name); err != nil {
			return err
		}
		a.add(r, s, k)
		return nil
	})
}

// locally does something in the agent's process under mu.
func (a *Agent) locally(ctx context.Context, r *run, f func() error) *answer {
	if err := a.c.await(ctx, func() (bool, error) {
		switch {
		case a.run != r:
			return false, errEnded
		case a.frozen:
			return false, nil
		}
		return true, f()
	}); err != nil {
		return failure(err)
	}
	return empty(http.StatusOK)
}

func (a *Agent) serviceDeregister(ctx context.Context, r *run, id string, q Request) *answer {
	return a.locally(ctx, r, func() error {
		if err := a.c.unknown(q.Token); err != nil {
			return err
		}
		s := r.services[id]
		if s == nil || s.deleted {
			return httpError{http.StatusNotFound, fmt.Sprintf("Unknown service ID %q. Ensure that the service ID is passed, not the service name.", id)}
		}
		may := func(t Token) bool { return allows(t.Services, "write") }
		if err := denied(a.c.denies(q.Token, may), "service:write", s.name); err != nil {
			return err
		}
		a.deregister(r, id)
		return nil
	})
}

func (a *Agent) checkPass(ctx context.Context, r *run, id string, q Request) *answer {
	return a.refresh(ctx, r, id, api.HealthPassing, q)
}

func (a *Agent) checkUpdate(ctx context.Context, r *run, id string, q Request) *answer {
	var body struct{ Status, Output string }
	if err := json.Unmarshal(q.Body, &body); err != nil {
		return plain(http.StatusBadRequest, "Request decode failed: "+err.Error())
	}
	switch body.Status {
	case api.HealthPassing, api.HealthWarning, api.HealthCritical:
		return a.refresh(ctx, r, id, body.Status, q)
	}
	return plain(http.StatusBadRequest, fmt.Sprintf("Invalid check status: '%s'", body.Status))
}

// refresh begins a check's TTL anew. Its output is not simulated: the servers do
// not hear of it for minutes.
func (a *Agent) refresh(ctx context.Context, r *run, id, status string, q Request) *answer {
	return a.locally(ctx, r, func() error {
		if err := a.c.unknown(q.Token); err != nil {
			return err
		}
		k := r.checks[id]
		if k == nil || k.deleted {
			return httpError{http.StatusNotFound, fmt.Sprintf("Unknown check ID %q. Ensure that the check ID is passed, not the check name.", id)}
		}
		may := func(t Token) bool { return allows(t.Services, "write") }
		if err := denied(a.c.denies(q.Token, may), "service:write", k.service); err != nil {
			return err
		}
		a.pass(k, status)
		return nil
	})
}
