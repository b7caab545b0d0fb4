package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

func TestLogLines(t *testing.T) {
	log := `{"@level":"info","@message":"too early","@timestamp":"2026-01-02T11:59:00.000000Z"}
{"@level":"warn","@message":"state changed","@timestamp":"2026-01-02T12:00:01.500000Z","vip":"10.77.1.1","from":"standby"}
panic: at the disco
{"@level":"info","@message":"too late","@timestamp":"2026-01-02T12:01:00.000000Z"}
`
	lines := logLines(strings.NewReader(log), "h1", noon, at(10*time.Second))
	require.Equal(t, []line{
		{at(1500 * time.Millisecond), "h1", "[WARN] state changed from=standby vip=10.77.1.1"},
		{at(1500 * time.Millisecond), "h1", "panic: at the disco"},
	}, lines)
	require.Equal(t, "12:00:01.500000  h1             [WARN] state changed from=standby vip=10.77.1.1", lines[0].String())
}

func TestConsulLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "consul.log")
	require.NoError(t, os.WriteFile(file, []byte("2026-01-02T12:00:01.250Z [INFO]  agent.server: lost\nno time\n"), 0o644))
	require.Equal(t, []line{{at(1250 * time.Millisecond), "h1 consul", "[INFO]  agent.server: lost"}},
		consulLines(file, "h1 consul", noon, at(time.Minute)))
	require.Empty(t, consulLines(file, "", at(time.Minute), at(time.Hour)))
	require.Empty(t, consulLines(file+".none", "", noon, at(time.Hour)))
}

func TestWriteViolation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "violation.log")
	v := violation{invariant: "owner", at: noon, text: "no host", during: "3: stop"}
	lines := []line{{at(-1), "h1", "earlier"}, {at(1), "h2", "later"}, {at(2), "h2", "latest"}}
	require.NoError(t, writeViolation(file, options{world: lab.Clients, seed: 42}, v, lines))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), "-world clients -seed 42")
	_, rest, _ := strings.Cut(string(text), "earlier\n")
	require.True(t, strings.HasPrefix(rest, "-------- owner: no host\n"), rest)
	require.Equal(t, 1, strings.Count(string(text), "--------"))
}
