package simulation

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var mutate = flag.Bool("mutations", false, "break the program on purpose, and see whether the simulation finds it")

// mutation breaks the program in one way.
type mutation struct {
	name     string
	file     string // from the root of the module
	from, to string
	want     string // what the simulation reports, as a regular expression
	kinds    string // of the faults that find it soon; empty: all
}

// root is the root of the module.
var root = filepath.Join("..", "..", "..", "..")

var mutations = []mutation{
	{
		"an address is bound without a probe",
		"cmd/consul-vip/internal/agent/takeover.go",
		"case len(before) == 0 && t.stranger == nil:", "case t.stranger == nil:",
		"two hosts answer", "",
	},
	{
		"released is sent before the address is unbound",
		"cmd/consul-vip/internal/agent/release.go",
		"	failed := a.unbind()\n", "	if transferred {\n\t\tv.sendReleased(word)\n\t}\n\tfailed := a.unbind()\n",
		"two hosts answer", "move|drain|pause",
	},
	{
		"a process does not notice that it was paused",
		"lease/proof.go",
		"gap > LongestGap", "gap > 1000*LongestGap",
		"two hosts answer|ended with 5, which no recent fault explains", "pause|suspend|move",
	},
	{
		"a lock that is lost is not noticed",
		"lease/hold.go",
		"case l.Session != h.session.id || l.Record.Session != h.session.id:", "case false:",
		"and its lock belongs to", "",
	},
	{
		"a lifetime in the kernel is not limited",
		"cmd/consul-vip/internal/agent/bind.go",
		"return min(cfg.DeadMan, held.Remaining()).Truncate(time.Second)", "return held.Remaining().Truncate(time.Second) + time.Hour",
		"beyond every hold deadline", "",
	},
	{
		"every conflict ends the process",
		"cmd/consul-vip/internal/agent/conflict.go",
		"how:       contested,", "how:       conflict,",
		"ended because of one address", "",
	},
	{
		"the previous owner is forgotten when the lock is acquired",
		"lease/acquire.go",
		"Previous: previous, Before: before, Contested: w.contested,", "Previous: previous, Contested: w.contested,",
		"two hosts answer", "",
	},
	{
		"one lost answer is taken for a proof",
		"announcer/losses.go",
		"return max(minRounds, ", "return min(1, ",
		"two hosts answer", "",
	},
	{
		"answers for the address break no row of a proof",
		"announcer/proof.go",
		"*e = evidence{}", "",
		"two hosts answer", "",
	},
	{
		"silence is a proof although no witness answers",
		"announcer/round.go",
		"case s.witnesses.answered(at):", "case true:",
		"two hosts answer", "",
	},
	{
		"a host is its own witness",
		"announcer/witness.go",
		"	r := &witnesses{", "	exclude, watched = func(net.HardwareAddr) bool { return false }, Host{}\n	r := &witnesses{",
		"nobody has taken", "^(crash|move|pause)$",
	},
	{
		"a host is dead although no witness answers",
		"announcer/hostcheck.go",
		"!backlogged && h.witnesses.answered(iv.began):", "!backlogged:",
		"which it could hear", "",
	},
	{
		"a victim's claim is a stranger's",
		"cmd/consul-vip/internal/agent/conflict.go",
		"return a.awaitsReturn() && ", "return false && ",
		"counts as a stranger", "",
	},
	{
		"the claim of a member is a stranger's",
		"cmd/consul-vip/internal/agent/conflict.go",
		`if certain && node == "" {`, "if certain {",
		"which had taken", "",
	},
	{
		"a victim takes locks soon",
		"lease/setback.go",
		"firstSetback   = 10 * time.Second", "firstSetback   = 2100 * time.Millisecond",
		"after a lock was taken from it", "^(stall in turn|move|pause)$",
	},
	{
		"any probe is a release",
		"announcer/handover.go",
		"return w.nonce == n && (n != Nonce{} || w.mac == string(owner))", "return true",
		"two hosts answer", "",
	},
	{
		"an address that was taken is bound unasked",
		"cmd/consul-vip/internal/agent/victim.go",
		"	if t.victim == nil || !t.victim.sure {\n\t\treturn false", "	if true {\n\t\treturn t.victim != nil",
		"from which it was taken", "",
	},
	{
		"two hooks of an address run at once",
		"cmd/consul-vip/internal/hook/hook.go",
		"			q.working = true\n", "",
		"runs two hooks", "move|drain|pause",
	},
	{
		"the hooks are not told that an address is released",
		"cmd/consul-vip/internal/agent/release.go",
		"	v.onLeft(o, end.Kind, reason.Error())\n", "",
		"acquired .* twice", "move|drain|pause",
	},
}

// TestMutationsFit notices a mutation that does not fit the program any more.
func TestMutationsFit(t *testing.T) {
	for _, m := range mutations {
		source, err := os.ReadFile(filepath.Join(root, m.file))
		require.NoError(t, err)
		require.True(t, strings.Contains(string(source), m.from), m.name)
	}
}

// TestMutations breaks the program in several ways and expects that the simulation
// finds each.
func TestMutations(t *testing.T) {
	if !*mutate {
		t.Skip("takes some minutes: run it with -mutations")
	}
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			output, err := simulateMutant(t, m)
			require.Error(t, err, "the simulation has not found it")
			require.Regexp(t, m.want, output)
			line, _, _ := strings.Cut(output[strings.Index(output, ": seed ")+2:], "\n")
			t.Logf("in %d of 100 clusters: %s", strings.Count(output, ": seed "), line)
		})
	}
}

// simulateMutant runs the simulation of a changed program, which is not written to the
// source tree.
func simulateMutant(t *testing.T, m mutation) (output string, err error) {
	file, err := filepath.Abs(filepath.Join(root, m.file))
	require.NoError(t, err)
	source, err := os.ReadFile(file)
	require.NoError(t, err)
	dir := t.TempDir()
	mutant, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(mutant, []byte(strings.ReplaceAll(string(source), m.from, m.to)), 0o600))
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{file: mutant}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, replace, 0o600))
	run := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-overlay", overlay, "-run", "TestSimulate", ".", "-args", "-seed", "1", "-faults", "4000", "-kinds", m.kinds, "-out", dir)
	b, err := run.CombinedOutput()
	require.NotContains(t, string(b), "build failed")
	return string(b), err
}
