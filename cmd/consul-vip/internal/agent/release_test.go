package agent

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"

	"github.com/consul-vip/consul-vip/lease"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

func TestReleaseOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		assert.Equal(t, lease.Left{}, f.serve(t, free, stopAtOnce).left())
		assert.Equal(t, bindsAndReleases, f.recorded())
	})
}

func TestReleaseAfterATransfer(t *testing.T) {
	handedOver := func(stop stopper) { stop(lease.End{Kind: lease.Transferred, Reason: errTest}) }
	for _, notReady := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			f.notReady = notReady
			assert.Equal(t, lease.Left{}, f.serve(t, free, handedOver).left())
			assert.Equal(t, []string{"bind", "bound", "announce", "stop announcing", "await ready", "unbind", "send released"}, f.recorded())
		})
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.unbindErr = errTest
		assert.Equal(t, lease.Left{Unclean: true}, f.serve(t, free, handedOver).left())
		assert.NotContains(t, f.recorded(), "send released", "the kernel still has the address")
	})
}

func TestUnbindFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.unbindErr = errTest
		assert.Equal(t, lease.Left{Unclean: true}, f.serve(t, free, stopAtOnce).left())
	})
}

// The words of a handover carry the nonce of its record, if the successor knows it.
func TestReleaseNamesTheHandover(t *testing.T) {
	for node, calls := range map[string][]string{
		"h3": {"await ready, nonce 0102030405ff", "unbind", "send released 02:00:00:00:00:33, nonce 0102030405ff"},
		"h2": {"await ready", "unbind", "send released, nonce 0102030405ff"}, // does not describe its host
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			onMembersSegment(f)
			f.serve(t, free, func(stop stopper) {
				stop(lease.End{Kind: lease.Transferred, Reason: errTest, Handover: &leasestate.Record{Node: node, Nonce: "0102030405ff"}})
			})
			assert.Equal(t, calls, f.recorded()[4:])
		})
	}
}
