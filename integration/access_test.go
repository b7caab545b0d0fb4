package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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
	t.Parallel()
	certs, err := lab.NewCertificates(t.TempDir())
	require.NoError(t, err)
	w := ownLab(t, lab.ClusterConfig{RaftMultiplier: 1, Token: managementToken, TLS: certs})
	run := func(name string, test func(t *testing.T, s *accessScene)) {
		t.Run(name, func(t *testing.T) { test(t, newAccessScene(t, w)) })
	}
	run("shipped policies", testShippedPolicies)
	t.Run("missing rules", func(t *testing.T) { testMissingRules(t, w) })
	run("rule withdrawn", testRuleWithdrawn)
	run("rule for a check", testRuleForACheck)
	run("unknown token", testUnknownToken)
	run("token replaced", testTokenReplaced)
	run("client certificate", func(t *testing.T, s *accessScene) { testClientCertificate(t, s, certs) })
}

// accessScene is a scene whose processes need tokens.
type accessScene struct{ *scene }

// newAccessScene prepares a scene with the prefix and service that the shipped
// policies are for.
func newAccessScene(t *testing.T, w *lab.Lab) *accessScene {
	t.Helper()
	s := &accessScene{newSceneIn(t, w)}
	s.name = "consul-vip"
	s.retry("deleting what the last test left", func() error {
		_, err := s.server.API.KV().DeleteTree("consul-vip/", nil)
		return err
	})
	return s
}

// grant makes a policy and a token with just that, and returns both as soon as
// every server knows them.
func (s *accessScene) grant(rules string) (*api.ACLPolicy, *api.ACLToken) {
	s.t.Helper()
	acl := s.server.API.ACL()
	var policy *api.ACLPolicy
	s.retry("creating a policy", func() (err error) {
		name := strings.NewReplacer("/", "-", "_", "-").Replace(fmt.Sprintf("%s-%d", s.t.Name(), time.Now().UnixNano()))
		policy, _, err = acl.PolicyCreate(&api.ACLPolicy{Name: name, Rules: rules}, nil)
		return err
	})
	var token *api.ACLToken
	s.retry("creating a token", func() (err error) {
		token, _, err = acl.TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
		return err
	})
	for _, server := range s.Cluster.Servers {
		s.retry("reading the new token on "+server.Host.Name, func() error {
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
	s.retry("changing a policy", func() error {
		_, _, err := s.server.API.ACL().PolicyUpdate(policy, nil)
		return err
	})
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
	replaceFile(s.t.T, path, token)
	return config{consul: fmt.Sprintf("  token_file = %q", path)}, path
}

func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// missingRule begins a log line about a rule that the token lacks.
const missingRule = "missing ACL permission: "

// rules returns the rules that a process has named as missing, in order.
func rules(p *lab.Process) []string {
	var named []string
	for _, e := range p.Entries() {
		if rule, ok := strings.CutPrefix(e.Message(), missingRule); ok {
			named = append(named, rule)
		}
	}
	return named
}

// testShippedPolicies has everything done with the shipped policies and nothing more.
func testShippedPolicies(t *testing.T, s *accessScene) {
	h1, h2, h3 := s.Servers[0], s.Servers[1], s.Servers[2]
	policy := example(t, "acl-policy.hcl")
	_, first := s.grant(policy)
	_, second := s.grant(policy)
	p := s.start(h1, withToken(first.SecretID))
	s.await(s.ownedBy(h1))
	s.startStandby(h2, withToken(second.SecretID))
	s.await(mentions(p, "is a server"))

	_, reader := s.grant(example(t, "status-policy.hcl"))
	s.statusWith(h3, reader)
	_, err := h3.Run(t.Context(), lab.Command{Args: []string{s.ConsulVIP, "status"}})
	s.ErrorContains(err, `key_prefix "consul-vip/" { policy = "read" }`, "without a token")
	_, operator := s.grant(policy)
	s.operate(operator, h1, h2)

	// A takeover and a stop.
	owner := s.owner()
	s.NoError(s.instanceOn(owner).Kill())
	s.stop(s.instanceOn(s.takenOver(owner)))
	_, r := s.lockOf(s.vip)
	s.Equal("released", r.State)
	for _, p := range s.instances {
		s.Empty(rules(p))
		s.Zero(mentioned(p, "ACL token"), "log lines about the token")
	}
}

// statusWith requires that "consul-vip status" shows the owner to this token.
func (s *accessScene) statusWith(h *lab.Host, token *api.ACLToken) {
	s.t.Helper()
	var rows []struct{ VIP, State, Node string }
	s.retry("status with a token", func() error {
		out, err := h.Run(s.t.Context(), lab.Command{Args: []string{s.ConsulVIP, "status", "-json", "-token=" + token.SecretID}})
		if err != nil {
			return err
		}
		return json.Unmarshal(out, &rows)
	})
	s.Contains(rows, struct{ VIP, State, Node string }{s.vip.String(), "held", s.owner().Name})
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
		_, err := h1.Run(s.t.Context(), lab.Command{Args: append([]string{s.ConsulVIP}, append(step.args, "-token="+token.SecretID)...)})
		s.NoError(err)
		s.await(s.ownedBy(step.owner))
	}
	kv, pin, options := s.server.API.KV(), s.name+"/"+pinKey(s.vip), &api.WriteOptions{Token: token.SecretID}
	s.retry("pinning to nobody with the token", func() error {
		_, err := kv.Put(&api.KVPair{Key: pin, Value: []byte("-")}, options)
		return err
	})
	s.await(s.unbound())
	s.runLocked(h1, token)
	s.retry("unpinning with the token", func() error {
		_, err := kv.Delete(pin, options)
		return err
	})
	s.owner()
}

// runLocked runs a command under "consul lock" on a host.
func (s *accessScene) runLocked(h *lab.Host, token *api.ACLToken) {
	s.t.Helper()
	out, err := h.Run(s.t.Context(), lab.Command{
		Args: []string{s.Consul, "lock", "consul-vip/" + s.vip.String(), "echo", "locked"},
		Env:  []string{"CONSUL_HTTP_TOKEN=" + token.SecretID},
	})
	s.NoError(err)
	s.Contains(string(out), "locked", "output of the command under consul lock")
}

// rule finds the rules of a policy, without the comments.
var rule = regexp.MustCompile(`(?ms)^(\w+) ("[^"]*") \{\s*policy = ("\w+")\s*\}`)

// testMissingRules takes each rule of the shipped policy away, from one instance
// each, with a prefix and a service of its own. The instance names the rule, and
// just it, and comes up when it is there.
func testMissingRules(t *testing.T, w *lab.Lab) {
	type deprived struct {
		*accessScene
		policy  *api.ACLPolicy
		missing string
		process *lab.Process
	}
	shipped := example(t, "acl-policy.hcl")
	var all []deprived
	for i := range rule.FindAllString(shipped, -1) {
		s := &accessScene{newSceneIn(t, w)}
		whole := strings.ReplaceAll(shipped, "consul-vip", s.name)
		r := rule.FindAllStringSubmatch(whole, -1)[i]
		policy, token := s.grant(strings.Replace(whole, r[0], "", 1))
		missing := fmt.Sprintf("%s %s { policy = %s }", r[1], r[2], r[3])
		all = append(all, deprived{s, policy, missing, s.start(s.Servers[0], withToken(token.SecretID))})
	}
	require.Len(t, all, 4)
	for _, d := range all {
		d.await(mentions(d.process, missingRule))
	}
	all[0].pass(calm) // some more tries
	for _, d := range all {
		d.Equal([]string{d.missing}, rules(d.process), "rules named, once each")
		d.running(d.process)
		d.holds(d.unbound())
		d.change(d.policy, d.policy.Rules+d.missing)
	}
	for _, d := range all {
		d.await(d.ownedBy(d.Servers[0]))
		d.await(mentions(d.process, "all required permissions"))
	}
}

// testRuleWithdrawn takes an owner the rule for its keys and gives it back. The
// address stays: its lock was not deleted, only hidden.
func testRuleWithdrawn(t *testing.T, s *accessScene) {
	h1, whole := s.Servers[0], example(t, "acl-policy.hcl")
	keys := rule.FindStringSubmatch(whole)
	s.Equal("key_prefix", keys[1])
	policy, token := s.grant(whole)
	c := withToken(token.SecretID)
	c.sessionTTL = 6 * sessionTTL // for so long an owner serves without seeing its lock
	p := s.startOn(c, h1)[0]
	tenure := s.tenure(p)

	s.change(policy, strings.Replace(whole, keys[0], "", 1))
	s.await(mentions(p, missingRule))
	s.Equal([]string{`key_prefix "consul-vip/" { policy = "write" }`}, rules(p))
	s.put(drainKey("h3"), "") // something for the watch to see
	s.pass(calm)
	s.change(policy, whole)
	s.await(mentions(p, "all required permissions"))
	s.await(mentions(p, "watching the locks works again"))
	tenure.unbroken()
	s.seen(h1)
}

// commented finds the rule for a check in the comments of the shipped policy.
var commented = regexp.MustCompile(`(?m)^#\s+(service "traefik" \{.*\})$`)

// testRuleForACheck has an address require the health of a service that the token may not
// read. The instance names the rule that the shipped policy mentions, takes nothing, and
// serves when the rule is there.
func testRuleForACheck(t *testing.T, s *accessScene) {
	h1, shipped := s.Servers[0], example(t, "acl-policy.hcl")
	agent := s.Cluster.Of(h1).API.Agent()
	s.NoError(agent.ServiceRegister(&api.AgentServiceRegistration{Name: "traefik"}))
	t.Cleanup(func() { s.NoError(agent.ServiceDeregister("traefik")) })
	policy, token := s.grant(shipped)
	c := withToken(token.SecretID)
	p := s.startFrom(h1, s.configure(h1, s.hcl(config{vip: `require = ["traefik"]`})+`check "traefik" { service = "traefik" }`), c.env...)
	s.await(mentions(p, missingRule))
	needed := commented.FindStringSubmatch(shipped)
	s.Len(needed, 2)
	s.pass(calm)
	s.Equal(needed[1:], rules(p), "rules named, once each")
	s.holds(s.unbound())
	s.change(policy, shipped+needed[1])
	s.await(s.ownedBy(h1))
	s.await(mentions(p, "all required permissions"))
}

// testUnknownToken starts with a token that Consul does not know.
func testUnknownToken(t *testing.T, s *accessScene) {
	h1 := s.Servers[0]
	c, path := s.withTokenFile(unknownToken)
	p := s.start(h1, c)
	s.await(mentions(p, "the ACL token is not known to Consul"))
	s.running(p)
	_, token := s.grant(example(t, "acl-policy.hcl"))
	replaceFile(t, path, token.SecretID)
	s.await(s.ownedBy(h1))
	s.Empty(rules(p))
	s.NotContains(p.String(), unknownToken)
}

// testTokenReplaced replaces an owner's token and deletes the old one, as a program
// that rotates tokens does. The address does not notice, and Consul still notices
// by the check when the owner is killed.
func testTokenReplaced(t *testing.T, s *accessScene) {
	h1, h2 := s.Servers[0], s.Servers[1]
	policy := example(t, "acl-policy.hcl")
	_, old := s.grant(policy)
	c, path := s.withTokenFile(old.SecretID)
	procs := s.startOn(c, h1, h2)
	tenure := s.tenure(procs[0])

	_, token := s.grant(policy)
	replaceFile(t, path, token.SecretID)
	for _, p := range procs {
		s.await(mentions(p, "the ACL token has changed"))
	}
	s.pass(slack) // the service is registered anew at the next beat of its check
	s.retry("deleting the old token", func() error {
		_, err := s.server.API.ACL().TokenDelete(old.AccessorID, nil)
		return err
	})
	s.NoError(os.Remove(path))
	s.pass(holdTime)
	tenure.unbroken()
	s.seen(h1)

	session := s.session()
	s.NoError(procs[0].Kill())
	killed := time.Now()
	s.awaitWithin(expiry-slack, s.sessionGone(session))
	t.Logf("the session ended %v after the kill", time.Since(killed))
	s.awaitWithin(2*soon, s.ownedBy(h2))
}

// expiry is the time after the last renewal at which Consul ends a session. A failed
// check ends it before.
const expiry = 2 * sessionTTL

// testClientCertificate asks Consul by mutual TLS, with and without a certificate.
func testClientCertificate(t *testing.T, s *accessScene, certs *lab.Certificates) {
	const complaint = "requires a client certificate"
	h1, h2 := s.Servers[0], s.Servers[1]
	_, token := s.grant(example(t, "acl-policy.hcl"))
	c := withToken(token.SecretID)
	c.consul = fmt.Sprintf("  address = \"https://127.0.0.1:%d\"", lab.ConsulTLSPort)
	c.env = append(c.env, "CONSUL_CACERT="+certs.CA)
	without := s.start(h2, c)
	c.env = append(c.env, "CONSUL_CLIENT_CERT="+certs.Client.Cert, "CONSUL_CLIENT_KEY="+certs.Client.Key)
	s.start(h1, c)
	s.await(s.ownedBy(h1))

	s.await(mentions(without, complaint))
	s.pass(calm) // some more tries
	s.Equal(1, mentioned(without, complaint), "complaints about the certificate")
	s.running(without)

	out, err := h2.Run(t.Context(), lab.Command{Args: []string{
		s.ConsulVIP, "status", "-json", "-token=" + token.SecretID, fmt.Sprintf("-http-addr=https://127.0.0.1:%d", lab.ConsulTLSPort),
		"-ca-file=" + certs.CA, "-client-cert=" + certs.Client.Cert, "-client-key=" + certs.Client.Key,
	}})
	s.NoError(err)
	s.Contains(string(out), h1.Name)
}
