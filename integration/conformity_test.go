package integration

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
	"github.com/consul-vip/consul-vip/internal/simconsul"
)

// TestConformity runs the table of requests, which the simulated Consul must answer as
// it does, against the real one.
func TestConformity(t *testing.T) {
	t.Run("without ACLs", func(t *testing.T) {
		simconsul.Conformity(t, subject(newScene(t)))
	})
	t.Run("with ACLs", func(t *testing.T) {
		l, err := startLab(lab.ClusterConfig{RaftMultiplier: 1, Token: managementToken})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, l.Close()) })
		s := &accessScene{newSceneIn(t, l)}
		whole := subject(s.scene)
		whole.Grant = func(token simconsul.Token) string {
			_, granted := s.grant(rulesOf(token))
			return granted.SecretID
		}
		simconsul.Conformity(t, whole)
	})
}

// subject is the scene's first agent.
func subject(s *scene) simconsul.Subject {
	transport := &http.Transport{DialContext: s.server.Host.Dial}
	s.t.Cleanup(transport.CloseIdleConnections)
	return simconsul.Subject{
		Transport: transport,
		Address:   fmt.Sprintf("127.0.0.1:%d", lab.ConsulPort),
		Node:      s.server.Host.Name,
		Prefix:    s.name,
	}
}

// rulesOf is a token's permissions as a policy has them.
func rulesOf(token simconsul.Token) string {
	var rules []string
	add := func(kind, name, policy string) {
		if policy != "" {
			rules = append(rules, fmt.Sprintf("%s %q { policy = %q }", kind, name, policy))
		}
	}
	for _, prefix := range slices.Sorted(maps.Keys(token.Keys)) {
		add("key_prefix", prefix, token.Keys[prefix])
	}
	add("session_prefix", "", token.Sessions)
	add("service_prefix", "", token.Services)
	add("agent_prefix", "", token.Agent)
	return strings.Join(rules, "\n")
}
