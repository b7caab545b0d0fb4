package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	managementToken = "5ec0de00-0000-4000-8000-000000000001"
	unknownToken    = "5ec0de00-0000-4000-8000-00000000dead"
)

// TestAccess is about a Consul that denies everything by default and speaks HTTPS
// with those only that show a certificate.
func TestAccess(t *testing.T) {
	certs, err := lab.NewCertificates(t.TempDir())
	require.NoError(t, err)
	w, err := newWorld(lab.ClusterConfig{RaftMultiplier: 1, Token: managementToken, TLS: certs})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.close()) })
	run := func(name string, test func(t *testing.T, s *accessScene)) {
		t.Run(name, func(t *testing.T) { test(t, newAccessScene(t, w)) })
	}
	run("shipped policies", testShippedPolicies)
	t.Run("missing rules", func(t *testing.T) { testMissingRules(t, w) })
	run("right withdrawn", testRightWithdrawn)
	run("unknown token", testUnknownToken)
	run("token replaced", testTokenReplaced)
	run("client certificate", func(t *testing.T, s *accessScene) { testClientCertificate(t, s, certs) })
}

// accessScene is a scene whose processes need tokens.
type accessScene struct{ *scene }

// newAccessScene prepares a scene with the prefix and service that the shipped
// policies are for.
func newAccessScene(t *testing.T, w *world) *accessScene {
	t.Helper()
	s := &accessScene{newScene(t, w)}
	s.name = "consul-vip"
	_, err := s.asked.API.KV().DeleteTree("consul-vip/", nil)
	require.NoError(t, err)
	return s
}

// grant makes a policy and a token with just that, and returns both as soon as
// every server knows them.
func (s *accessScene) grant(rules string) (*api.ACLPolicy, *api.ACLToken) {
	s.t.Helper()
	acl := s.asked.API.ACL()
	name := strings.NewReplacer("/", "-", "_", "-").Replace(fmt.Sprintf("%s-%d", s.t.Name(), time.Now().UnixNano()))
	policy, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: name, Rules: rules}, nil)
	require.NoError(s.t, err)
	token, _, err := acl.TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
	require.NoError(s.t, err)
	for _, server := range s.cluster.Servers {
		s.eventually(soon, func() error {
			_, _, err := server.API.ACL().TokenReadSelf(&api.QueryOptions{Token: token.SecretID, AllowStale: true})
			return err
		})
	}
	return policy, token
}

// change gives a policy other rules.
func (s *accessScene) change(policy *api.ACLPolicy, rules string) {
	s.t.Helper()
	policy.Rules = rules
	_, _, err := s.asked.API.ACL().PolicyUpdate(policy, nil)
	require.NoError(s.t, err)
}

// example returns a shipped policy.
func example(t *testing.T, name string) string {
	t.Helper()
	root, err := lab.ModuleRoot()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "examples", name))
	require.NoError(t, err)
	return string(text)
}

func withToken(token string) config {
	return config{env: []string{"CONSUL_HTTP_TOKEN=" + token}}
}

// withTokenFile writes a token where the configuration has it.
func (s *accessScene) withTokenFile(token string) (c config, path string) {
	s.t.Helper()
	path = filepath.Join(s.t.TempDir(), "token")
	replaceFile(s.t, path, token)
	return config{consul: fmt.Sprintf("  token_file = %q", path)}, path
}

func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// rules returns the rules that a process has named as missing, in order.
func rules(p *lab.Process) []string {
	var named []string
	for _, e := range p.Entries() {
		if rule, ok := strings.CutPrefix(e.Message(), "missing ACL right: "); ok {
			named = append(named, rule)
		}
	}
	return named
}

// namesRules objects unless a process has named a rule as missing.
func namesRules(p *lab.Process) error {
	if len(rules(p)) == 0 {
		return errors.New("nothing is missing")
	}
	return nil
}

// says objects unless the process has logged such a line.
func says(p *lab.Process, message string) error {
	for _, e := range p.Entries() {
		if strings.Contains(e.Message(), message) {
			return nil
		}
	}
	return fmt.Errorf("%s does not say %q", p.Host.Name, message)
}

// testShippedPolicies has everything done with the shipped policies and nothing more.
func testShippedPolicies(t *testing.T, s *accessScene) {
	h1, h2, h3 := s.Servers[0], s.Servers[1], s.Servers[2]
	policy := example(t, "acl-policy.hcl")
	_, first := s.grant(policy)
	_, second := s.grant(policy)
	procs := []*lab.Process{s.start(h1, withToken(first.SecretID))}
	s.eventually(soon, func() error { return s.ownedBy(h1) })
	procs = append(procs, s.start(h2, withToken(second.SecretID)))
	s.eventually(soon, func() error { return s.enrolled(h2) })
	require.NoError(t, says(procs[0], "is a server"))

	_, reader := s.grant(example(t, "status-policy.hcl"))
	out, err := h3.Run(t.Context(), lab.Command{Args: []string{s.binary, "status", "-json", "-token=" + reader.SecretID}})
	require.NoError(t, err)
	var rows []struct{ VIP, State, Node string }
	require.NoError(t, json.Unmarshal(out, &rows))
	require.Contains(t, rows, struct{ VIP, State, Node string }{s.vip.String(), "held", h1.Name})

	_, err = h3.Run(t.Context(), lab.Command{Args: []string{s.binary, "status"}})
	require.ErrorContains(t, err, `key_prefix "consul-vip/" { policy = "read" }`, "without a token")
	_, operator := s.grant(policy)
	s.operate(operator, h1, h2)

	// A takeover and a stop.
	owner, other := procs[0], procs[1]
	if s.owner() == h2 {
		owner, other = other, owner
	}
	require.NoError(t, owner.Kill())
	s.eventually(2*soon, func() error { return s.ownedBy(other.Host) })
	require.NoError(t, other.Signal(syscall.SIGTERM))
	s.exits(other, 0, 4*time.Second)
	_, r, err := s.record(s.vip)
	require.NoError(t, err)
	require.Equal(t, "released", r.State)
	for _, p := range procs {
		require.Empty(t, rules(p))
		require.Error(t, says(p, "ACL token"))
	}
}

// operate moves the address from h1 to h2 and back in every way there is.
func (s *accessScene) operate(token *api.ACLToken, h1, h2 *lab.Host) {
	s.t.Helper()
	vip := s.vip.String()
	for _, step := range []struct {
		args  []string
		owner *lab.Host
	}{
		{[]string{"drain", "-node=" + h1.Name}, h2},
		{[]string{"undrain", "-node=" + h1.Name}, h2},
		{[]string{"move", vip, "-to=" + h1.Name}, h1},
		{[]string{"unpin", vip}, h1},
		{[]string{"release", vip}, h2},
	} {
		_, err := h1.Run(s.t.Context(), lab.Command{Args: append([]string{s.binary}, append(step.args, "-token="+token.SecretID)...)})
		require.NoError(s.t, err)
		s.eventually(soon, func() error { return s.ownedBy(step.owner) })
	}
	kv, pin, options := s.asked.API.KV(), s.name+"/"+vip+"/pin", &api.WriteOptions{Token: token.SecretID}
	_, err := kv.Put(&api.KVPair{Key: pin, Value: []byte("-")}, options)
	require.NoError(s.t, err)
	s.eventually(soon, func() error { return s.unbound(s.t.Context()) })
	require.NoError(s.t, s.locked(h1, token))
	_, err = kv.Delete(pin, options)
	require.NoError(s.t, err)
	s.eventually(2*soon, func() error {
		if s.owner() == nil {
			return errors.New("nobody has it")
		}
		return nil
	})
}

// locked runs a command under "consul lock" on a host.
func (s *accessScene) locked(h *lab.Host, token *api.ACLToken) error {
	out, err := h.Run(s.t.Context(), lab.Command{
		Args: []string{s.consul, "lock", "consul-vip/" + s.vip.String(), "echo", "locked"},
		Env:  []string{"CONSUL_HTTP_TOKEN=" + token.SecretID},
	})
	if err == nil && !strings.Contains(string(out), "locked") {
		err = fmt.Errorf("consul lock did not run its command: %s", out)
	}
	return err
}

// rule finds the rules of a policy, without the comments.
var rule = regexp.MustCompile(`(?ms)^(\w+) ("[^"]*") \{\s*policy = ("\w+")\s*\}`)

// testMissingRules takes each rule of the shipped policy away, from one instance
// each, with a prefix and a service of its own. The instance names the rule, and
// just it, and comes up when it is there.
func testMissingRules(t *testing.T, w *world) {
	type deprived struct {
		*accessScene
		policy  *api.ACLPolicy
		missing string
		process *lab.Process
	}
	shipped := example(t, "acl-policy.hcl")
	var all []deprived
	for i := range rule.FindAllString(shipped, -1) {
		s := &accessScene{newScene(t, w)}
		whole := strings.ReplaceAll(shipped, "consul-vip", s.name)
		r := rule.FindAllStringSubmatch(whole, -1)[i]
		policy, token := s.grant(strings.Replace(whole, r[0], "", 1))
		missing := fmt.Sprintf("%s %s { policy = %s }", r[1], r[2], r[3])
		all = append(all, deprived{s, policy, missing, s.start(s.Servers[0], withToken(token.SecretID))})
	}
	require.Len(t, all, 4)
	for _, d := range all {
		d.eventually(soon, func() error { return namesRules(d.process) })
	}
	all[0].elapse(2 * time.Second) // some more tries
	for _, d := range all {
		require.Equal(t, []string{d.missing}, rules(d.process), "once, and no other")
		require.True(t, d.process.Running())
		require.NoError(t, d.unbound(t.Context()))
		d.change(d.policy, d.policy.Rules+d.missing)
	}
	for _, d := range all {
		d.eventually(2*soon, func() error { return d.ownedBy(d.Servers[0]) })
		d.eventually(soon, func() error { return says(d.process, "all the rights it needs now") })
	}
}

// testRightWithdrawn takes an owner the right to its keys and gives it back. The
// address stays: its lock was not deleted, only hidden.
func testRightWithdrawn(t *testing.T, s *accessScene) {
	h1, whole := s.Servers[0], example(t, "acl-policy.hcl")
	keys := rule.FindStringSubmatch(whole)
	require.Equal(t, "key_prefix", keys[1])
	policy, token := s.grant(whole)
	p := s.start(h1, withToken(token.SecretID))
	s.eventually(soon, func() error { return s.ownedBy(h1) })
	s.measure()
	s.eventually(soon, func() error { return s.ownedBy(h1) })

	s.change(policy, strings.Replace(whole, keys[0], "", 1))
	s.eventually(2*soon, func() error { return namesRules(p) })
	require.Equal(t, []string{`key_prefix "consul-vip/" { policy = "write" }`}, rules(p))
	_, err := s.asked.API.KV().Put(&api.KVPair{Key: "consul-vip/.drain/h3"}, nil) // something for the watch to see
	require.NoError(t, err)
	s.elapse(within)
	s.change(policy, whole)
	s.eventually(2*soon, func() error { return says(p, "all the rights it needs now") })
	s.eventually(soon, func() error { return says(p, "watching the locks works again") })
	require.NoError(t, s.ownedBy(h1))
	s.seen(h1)
}

// testUnknownToken starts with a token that Consul does not know.
func testUnknownToken(t *testing.T, s *accessScene) {
	h1 := s.Servers[0]
	c, path := s.withTokenFile(unknownToken)
	p := s.start(h1, c)
	s.eventually(soon, func() error { return says(p, "the ACL token is not known to Consul") })
	require.True(t, p.Running())
	_, token := s.grant(example(t, "acl-policy.hcl"))
	replaceFile(t, path, token.SecretID)
	s.eventually(2*soon, func() error { return s.ownedBy(h1) })
	require.Empty(t, rules(p))
	require.NotContains(t, p.String(), unknownToken)
}

// testTokenReplaced replaces an owner's token and deletes the old one, as what
// rotates tokens does. The address does not notice, and Consul still notices at
// once when the owner is killed.
func testTokenReplaced(t *testing.T, s *accessScene) {
	h1, h2 := s.Servers[0], s.Servers[1]
	policy := example(t, "acl-policy.hcl")
	_, old := s.grant(policy)
	c, path := s.withTokenFile(old.SecretID)
	procs := s.startOn(c, h1, h2)
	s.eventually(soon, func() error { return s.enrolled(h2) })

	_, token := s.grant(policy)
	replaceFile(t, path, token.SecretID)
	for _, p := range procs {
		s.eventually(soon, func() error { return says(p, "the ACL token has changed") })
	}
	s.elapse(2 * time.Second) // the service is registered anew at the next beat of its check
	_, err := s.asked.API.ACL().TokenDelete(old.AccessorID, nil)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	s.elapse(fence)
	require.NoError(t, s.ownedBy(h1))
	s.seen(h1)

	session := s.session()
	require.NoError(t, procs[0].Kill())
	killed := time.Now()
	s.eventually(2*soon, func() error {
		entry, _, err := s.asked.API.Session().Info(session, nil)
		if err == nil && entry != nil {
			return errors.New("the session is still there")
		}
		return err
	})
	t.Logf("the session ended %v after the kill", time.Since(killed))
	require.Less(t, time.Since(killed), sessionTTL-3*time.Second, "by its TTL, not by the check")
	s.eventually(2*soon, func() error { return s.ownedBy(h2) })
}

// testClientCertificate asks Consul by mutual TLS, with and without a certificate.
func testClientCertificate(t *testing.T, s *accessScene, certs *lab.Certificates) {
	h1, h2 := s.Servers[0], s.Servers[1]
	_, token := s.grant(example(t, "acl-policy.hcl"))
	c := withToken(token.SecretID)
	c.consul = fmt.Sprintf("  address = \"https://127.0.0.1:%d\"", lab.ConsulTLSPort)
	c.env = append(c.env, "CONSUL_CACERT="+certs.CA)
	without := s.start(h2, c)
	c.env = append(c.env, "CONSUL_CLIENT_CERT="+certs.Client.Cert, "CONSUL_CLIENT_KEY="+certs.Client.Key)
	s.start(h1, c)
	s.eventually(soon, func() error { return s.ownedBy(h1) })

	s.eventually(soon, func() error { return says(without, "asks for a client certificate") })
	s.elapse(2 * time.Second) // some more tries
	asked := 0
	for _, e := range without.Entries() {
		if strings.Contains(e.Message(), "asks for a client certificate") {
			asked++
		}
	}
	require.Equal(t, 1, asked)
	require.True(t, without.Running())

	out, err := h2.Run(t.Context(), lab.Command{Args: []string{
		s.binary, "status", "-json", "-token=" + token.SecretID, "-http-addr=https://127.0.0.1:8501",
		"-ca-file=" + certs.CA, "-client-cert=" + certs.Client.Cert, "-client-key=" + certs.Client.Key,
	}})
	require.NoError(t, err)
	require.Contains(t, string(out), h1.Name)
}
