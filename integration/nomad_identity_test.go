package integration

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestNomadIdentity has Consul trust Nomad as the job file says, and then give the
// instance a token.
func TestNomadIdentity(t *testing.T) {
	needsNomad(t)
	w := ownLab(t, lab.ClusterConfig{RaftMultiplier: 1, Token: managementToken})
	h := w.Servers[0]
	s := &jobScene{nomad: startNomad(t, h), file: filepath.Join(jobFiles(t), "consul-vip-identity.nomad.hcl")}
	s.scene = newSceneWith(t, w, everyAddress, netip.MustParseAddr("10.77.2.4"))
	s.name = "consul-vip" // as in the policy
	s.vars = []string{"-var=binary=" + s.ConsulVIP, "-var=vips=[\"10.77.2.4\"]"}
	t.Cleanup(s.purge)

	s.operate("setup", "consul", "-y", "-jwks-url="+s.nomad.Address()+"/.well-known/jwks.json")
	policy := filepath.Join(jobFiles(t), "..", "examples", "acl-policy.hcl")
	for _, command := range [][]string{
		{"policy", "create", "-name=consul-vip", "-rules=@" + policy},
		{"role", "create", "-name=consul-vip", "-policy-name=consul-vip"},
		{
			"binding-rule", "create", "-method=nomad-workloads", "-bind-type=role",
			"-bind-name=consul-vip", `-selector=value.nomad_job_id == "consul-vip"`,
		},
	} {
		args := append([]string{s.Consul, "acl"}, command...)
		_, err := h.Run(t.Context(), lab.Command{Args: args, Env: []string{"CONSUL_HTTP_TOKEN=" + managementToken}})
		s.NoError(err)
	}
	s.submit("-detach")
	s.awaitWithin(2*soon, s.ownedBy(h))
	s.NotContains(s.operate("alloc", "logs", "-stderr", s.allocation(h).ID), missingRule)
}

// startNomad starts a Nomad cluster of one host for a Consul with ACLs.
func startNomad(t *testing.T, h *lab.Host) *lab.NomadCluster {
	t.Helper()
	bin, err := lab.Nomad.Find()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	nomad, err := lab.StartNomad(ctx, bin, lab.NomadConfig{ConsulToken: managementToken}, []*lab.Host{h})
	require.NoError(t, err)
	return nomad
}
