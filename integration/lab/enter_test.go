package lab

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEnterAsOrdinaryUser runs one of the lab's tests as an ordinary user.
func TestEnterAsOrdinaryUser(t *testing.T) {
	if err := Wanted(); err != nil {
		t.Skip(err)
	}
	if os.Getuid() != 0 || Nested() {
		t.Skip("needs the machine's root, to become an ordinary user")
	}
	const nobody = 65534
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestClientSeesLossWhenAnAddressIsRemoved$", "-test.v")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		require.NotContains(t, string(out), "--- FAIL")
		t.Skipf("ordinary users may not make user namespaces here: %v\n%s", err, out)
	}
	require.Contains(t, string(out), "--- PASS: TestClientSeesLossWhenAnAddressIsRemoved")
}
