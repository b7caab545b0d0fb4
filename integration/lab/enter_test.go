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
	if os.Getuid() != 0 || os.Getenv(insideEnv) != "" {
		t.Skip("needs root to become an ordinary user")
	}
	const nobody = 65534
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestClientSeesLossWhenAnAddressIsRemoved$", "-test.v")
	cmd.Env = append(os.Environ(), "CONSUL_VIP_INTEGRATION=1")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Skipf("user namespaces aren't for everybody here: %v\n%s", err, out)
	}
	require.Contains(t, string(out), "--- PASS: TestClientSeesLossWhenAnAddressIsRemoved")
}
