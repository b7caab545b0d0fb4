package agent

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"

	"github.com/consul-vip/consul-vip/lease"
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
