package lease

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/operator"
	"github.com/consul-vip/consul-vip/lease/state"
)

func TestOperatorMoves(t *testing.T) {
	pair(t, ours, func(b, _ *instance, h, next *hold, _ *Held) {
		client, closeIdle := b.consul.NewClient(consul.Transport)
		defer closeIdle()
		out, err := operator.New(consul.New(client, nil), "p").Move(context.Background(), vip, "")
		require.NoError(t, err)
		assert.Equal(t, operator.Outcome{VIP: vip, From: "h1", State: state.StatusHeld, Node: "h2"}, out, "no time passes in the bubble")
		assert.Equal(t, "h2", string(b.consul.Get("p/"+vip+"/pin").Value))
		h.ends(Transferred)
		<-next.held
	})
}
