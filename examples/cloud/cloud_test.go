// Package cloud_test runs the hooks of this directory with a real shell and curl against
// servers that answer as the providers' APIs document.
package cloud_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/cloudapi"
)

const address = "203.0.113.10"

// processTime is how long a hook may take, in seconds, on a machine that is busy with other things.
const processTime = "120"

// fastClock returns a PATH in which the clock advances by 10 s each time that it is read, and
// only then.
func fastClock(t *testing.T) string {
	t.Helper()
	directory := t.TempDir()
	now := filepath.Join(directory, "now")
	require.NoError(t, os.WriteFile(now, []byte(strconv.FormatInt(time.Now().Unix(), 10)+"\n"), 0o600))
	script := "#!/bin/sh\nread -r now <" + now + "\necho $((now + 10)) | tee " + now + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(directory, "date"), []byte(script), 0o700))
	return directory + ":" + os.Getenv("PATH")
}

// hook is a script with its settings.
type hook struct {
	script string
	env    map[string]string
}

// with returns the hook with other settings: names and values in turn.
func (h hook) with(settings ...string) hook {
	env := maps.Clone(h.env)
	for pair := range slices.Chunk(settings, 2) {
		env[pair[0]] = pair[1]
	}
	return hook{h.script, env}
}

// command returns the command that runs the hook, in an environment of its own.
func (h hook) command(ctx context.Context, event string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "./"+h.script)
	cmd.Env = []string{"CONSUL_VIP_HOOK_EVENT=" + event}
	env := map[string]string{"PATH": os.Getenv("PATH"), "CONSUL_VIP_HOOK_ADDRESS": address}
	maps.Copy(env, h.env)
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // with its children, as the agent does
	return cmd
}

// run runs the hook and returns its output without the last newline, and whether it succeeded.
func (h hook) run(t *testing.T, event string) (output string, ok bool) {
	t.Helper()
	out, err := h.command(t.Context(), event).CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	output = strings.TrimSuffix(string(out), "\n")
	require.NotContains(t, output, "\n", "the hook printed more than one line")
	return output, err == nil
}

func (h hook) succeeds(t *testing.T, event, want string) {
	t.Helper()
	output, ok := h.run(t, event)
	require.True(t, ok, output)
	require.Equal(t, want, output)
}

func (h hook) fails(t *testing.T, event, want string) {
	t.Helper()
	output, ok := h.run(t, event)
	require.False(t, ok, output)
	require.Contains(t, output, want)
}

// needTools skips a test where the hooks cannot run. `make test` installs what they need.
func needTools(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("the hooks need " + tool)
		}
	}
}

// serve returns the address of a server for the handler.
func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// refusing returns an address at which nothing listens.
func refusing(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	return server.URL
}

// write writes a file that only the user can read, and returns its path.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// fault is a fault of an API, and what the hook reports about it.
type fault struct {
	fault cloudapi.Fault
	want  string
}

// failures are the faults of reading that both hooks report in the same words.
var failures = []fault{
	{cloudapi.ErrorPage, "HTTP 502, but the answer is not a JSON object (text/html)"},
	{cloudapi.LoginPage, "HTTP 200, but the answer is not a JSON object (text/html)"},
	{cloudapi.CutOff, "HTTP 200, but the answer is not a JSON object (application/json)"},
	{cloudapi.Hang, "timed out"},
}

// api is the part of a server that the tests of both hooks use.
type api interface {
	SetFault(cloudapi.Fault)
	Requests() []cloudapi.Request
	Changes() []cloudapi.Request
}

// Other events are not for these hooks. They do not even need their settings.
func TestOtherEvents(t *testing.T) {
	for _, script := range []string{"hetzner.sh", "exoscale.sh"} {
		for _, event := range []string{"pre_release", "unfit", "fit", "an_event_of_the_future", ""} {
			t.Run(script+"/"+event, func(t *testing.T) {
				hook{script, nil}.succeeds(t, event, "")
			})
		}
	}
}

// testSecrets runs the hook where each program that it starts records its arguments: none may
// have the secret.
func testSecrets(t *testing.T, h hook, secret string) {
	t.Helper()
	programs, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	for _, name := range []string{
		"base64", "curl", "cut", "date", "head", "jq", "od", "sed", "sha256sum", "sleep", "tr",
	} {
		path, err := exec.LookPath(name)
		require.NoError(t, err)
		wrapper := "#!/bin/sh\nprintf '%s\\n' " + name + "\" $*\" >>" + log + "\nexec " + path + " \"$@\"\n"
		require.NoError(t, os.WriteFile(filepath.Join(programs, name), []byte(wrapper), 0o700))
	}
	output, ok := h.with("PATH", programs).run(t, "acquired")
	require.True(t, ok, output)
	recorded, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Contains(t, string(recorded), "curl ")
	require.NotContains(t, string(recorded), secret)
	require.NotContains(t, output, secret)
}

// testSecretWhileHanging looks at the arguments of all processes while the API does not answer.
func testSecretWhileHanging(t *testing.T, h hook, a api, secret, endpoint string) {
	t.Helper()
	a.SetFault(cloudapi.Hang)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := h.command(ctx, "acquired")
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Wait() }() // killed
	defer cancel()
	require.Eventually(t, func() bool { return len(a.Requests()) > 0 }, time.Minute, 10*time.Millisecond)

	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	var found bool
	for _, file := range files {
		arguments, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		assert.False(t, bytes.Contains(arguments, []byte(secret)), file)
		found = found || bytes.Contains(arguments, []byte("curl")) && bytes.Contains(arguments, []byte(endpoint))
	}
	require.True(t, found, "no curl to be seen")
}

// The examples' configurations are HCL. Their keys are the configuration's to check.
func TestConfigurations(t *testing.T) {
	files, err := filepath.Glob("*.hcl")
	require.NoError(t, err)
	require.Len(t, files, 2)
	for _, file := range files {
		_, diags := hclparse.NewParser().ParseHCLFile(file)
		require.False(t, diags.HasErrors(), "%v", diags)
	}
}

// The tests' own script installs shellcheck; a plain "go test" goes without it.
func TestShellcheck(t *testing.T) {
	if _, err := exec.LookPath("shellcheck"); err != nil {
		t.Skip("shellcheck is not installed")
	}
	output, err := exec.CommandContext(t.Context(), "shellcheck", "hetzner.sh", "exoscale.sh").CombinedOutput()
	require.NoError(t, err, "%s", output)
}
