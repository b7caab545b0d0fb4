package simconsul

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	minTTL           = 10 * time.Second
	longestTTL       = 24 * time.Hour
	defaultLockDelay = 15 * time.Second
)

// Session is a session in Consul.
type Session struct {
	ID, Name, Node string
	TTL            time.Duration // 0: none; the session ends 2 x TTL after it was renewed
	LockDelay      time.Duration
	Created        time.Time
}

// sessionBody is what a client sends to create a session.
type sessionBody struct {
	Node, Name, Behavior, TTL string
	LockDelay                 any
	Checks, NodeChecks        []string
	ServiceChecks             []struct{ ID string }
}

// decodeSession fills in what the client left out, as Consul does.
func decodeSession(node string, text []byte) (*session, error) {
	body := sessionBody{Node: node, Checks: []string{serfHealth}, NodeChecks: []string{serfHealth}, Behavior: api.SessionBehaviorRelease}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &body); err != nil {
			return nil, httpError{http.StatusBadRequest, fmt.Sprintf("Request decode failed: %v", err)}
		}
	}
	n := &session{
		Session:  Session{Name: body.Name, Node: body.Node, LockDelay: defaultLockDelay},
		behavior: body.Behavior, nodeChecks: body.nodeChecks(),
	}
	if n.behavior == "" {
		n.behavior = api.SessionBehaviorRelease
	}
	for _, check := range body.ServiceChecks {
		n.serviceChecks = append(n.serviceChecks, check.ID)
	}
	return n, n.decodeTimes(body)
}

// nodeChecks decides between the two fields for a node's checks, as Consul does.
func (b sessionBody) nodeChecks() []string {
	switch {
	case len(b.Checks) == 0:
		return nil
	case len(b.Checks) == 1 && b.Checks[0] == serfHealth:
		return b.NodeChecks
	case len(b.NodeChecks) == 1 && b.NodeChecks[0] == serfHealth:
		return b.Checks
	}
	return append(b.NodeChecks, b.Checks...)
}

func (n *session) decodeTimes(body sessionBody) (err error) {
	switch v := body.LockDelay.(type) {
	case string:
		if n.LockDelay, err = time.ParseDuration(v); err != nil {
			return httpError{http.StatusBadRequest, fmt.Sprintf("Request decode failed: %v", err)}
		}
	case float64:
		n.LockDelay = time.Duration(v)
	}
	if n.LockDelay < 1000 { // nanoseconds: then they are meant as seconds
		n.LockDelay *= time.Duration(time.Second)
	}
	if body.TTL == "" {
		return nil
	}
	if n.TTL, err = time.ParseDuration(body.TTL); err != nil {
		return consulError(fmt.Sprintf("Session TTL '%s' invalid: %v", body.TTL, err))
	}
	if n.TTL != 0 && (n.TTL < minTTL || n.TTL > longestTTL) {
		return consulError(fmt.Sprintf("Invalid Session TTL '%d', must be between [%v=%v]", n.TTL, minTTL, longestTTL))
	}
	return nil
}

// sessionCreate serves the creation of a session. It needs its node and its checks in
// the catalog, and no check critical.
func (a *Agent) sessionCreate(ctx context.Context, r *run, _ string, q Request) *answer {
	n, err := decodeSession(a.Node, q.Body)
	if err != nil {
		return failure(err)
	}
	var denial error
	var refusal string
	err = a.write(ctx, r, func(s *store) bool {
		may := func(t Token) bool { return allows(t.Sessions, "write") }
		if denial = denied(a.c.denies(q.Token, may), "session:write", n.Node); denial != nil {
			return false
		}
		refusal = a.c.begin(s, n)
		return refusal == ""
	})
	err = cmp.Or(err, denial)
	switch {
	case err != nil:
		return failure(err)
	case refusal != "":
		return plain(http.StatusInternalServerError, "apply failed: "+refusal)
	}
	return ok200(map[string]string{"ID": n.ID})
}

// begin begins a session and its TTL, or returns why it is refused. The caller holds
// mu.
func (c *Cluster) begin(s *store, n *session) string {
	if n.ID == "" {
		n.ID = c.newID()
	}
	n.Created = time.Now()
	refusal := s.begin(n)
	if refusal == "" && c.leading() {
		c.startTimer(n)
	}
	return refusal
}

// sessionRenew serves a renewal. It writes nothing: the leader begins the TTL anew.
func (a *Agent) sessionRenew(ctx context.Context, r *run, id string, q Request) *answer {
	var n *session
	var denial error
	err := a.read(ctx, r, query{answer: func(s *store, _ bool) bool {
		if denial = a.c.unknown(q.Token); denial != nil {
			return true
		}
		if n = s.sessions[id]; n == nil {
			return true
		}
		may := func(t Token) bool { return allows(t.Sessions, "write") }
		denial = denied(a.c.denies(q.Token, may), "session:write", n.Node)
		if denial == nil && s == a.c.store && a.c.leading() {
			a.c.startTimer(n)
		}
		return true
	}})
	err = cmp.Or(err, denial)
	switch {
	case err != nil:
		return failure(err)
	case n == nil:
		return plain(http.StatusNotFound, fmt.Sprintf("Session id '%s' not found", id))
	}
	return ok200([]any{n.body()})
}

// body is a session as Consul shows it.
func (n *session) body() map[string]any {
	body := map[string]any{
		"ID": n.ID, "Name": n.Name, "Node": n.Node, "LockDelay": n.LockDelay, "Behavior": n.behavior, "TTL": "",
		"NodeChecks": n.nodeChecks, "ServiceChecks": nil, "CreateIndex": n.index, "ModifyIndex": n.index,
	}
	if n.TTL > 0 {
		body["TTL"] = n.TTL.String()
	}
	var checks []map[string]string
	for _, check := range n.serviceChecks {
		checks = append(checks, map[string]string{"ID": check, "Namespace": ""})
	}
	if checks != nil {
		body["ServiceChecks"] = checks
	}
	return body
}

func (a *Agent) sessionInfo(ctx context.Context, r *run, id string, q Request) *answer {
	return a.sessions(ctx, r, q, func(n *session) bool { return n.ID == id })
}

func (a *Agent) sessionsOfNode(ctx context.Context, r *run, node string, q Request) *answer {
	return a.sessions(ctx, r, q, func(n *session) bool { return n.Node == node })
}

func (a *Agent) sessionList(ctx context.Context, r *run, _ string, q Request) *answer {
	return a.sessions(ctx, r, q, func(*session) bool { return true })
}

// sessions serves those sessions that match. Those that the token may not read are
// missing.
func (a *Agent) sessions(ctx context.Context, r *run, q Request, match func(*session) bool) *answer {
	index, wait := a.blocking(q)
	_, consistent := q.Query["consistent"]
	bodies, m := []any{}, meta{}
	var unknown error
	err := a.read(ctx, r, query{consistent, wait, func(s *store, last bool) bool {
		m.index = max(s.sessIdx, 1)
		unknown = a.c.unknown(q.Token)
		if unknown == nil && !last && m.index <= index {
			return false
		}
		readable := a.c.denies(q.Token, func(t Token) bool { return allows(t.Sessions, "read") }) == nil
		for _, n := range s.oldestFirst() {
			switch {
			case !match(n):
			case readable:
				bodies = append(bodies, n.body())
			default:
				m.filtered = q.Token != ""
			}
		}
		return true
	}})
	if err = cmp.Or(err, unknown); err != nil {
		return failure(err)
	}
	return m.set(ok200(bodies))
}

// sessionDestroy serves the end of a session. One that does not exist is no error.
func (a *Agent) sessionDestroy(ctx context.Context, r *run, id string, q Request) *answer {
	var denial error
	err := a.write(ctx, r, func(s *store) bool {
		denial = a.c.unknown(q.Token)
		n := s.sessions[id]
		if denial != nil || n == nil {
			return false
		}
		may := func(t Token) bool { return allows(t.Sessions, "write") }
		if denial = denied(a.c.denies(q.Token, may), "session:write", n.Node); denial != nil {
			return false
		}
		s.end(id, "destroyed by "+a.Node, time.Now())
		return true
	})
	if err = cmp.Or(err, denial); err != nil {
		return failure(err)
	}
	return ok200(true)
}
