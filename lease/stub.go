package lease

import (
	"context"
	"time"

	"github.com/consul-vip/consul-vip/lease/state"
)

type Kind int

const (
	Stopped Kind = iota
	Transferred
	Released
	SteppedDown
	LockLost
	SessionLost
)

type End struct {
	Kind   Kind
	Reason error
	Clean  bool
}

type Left struct {
	Reason    error
	Unclean   bool
	Contested *state.Contested
}

type Contender struct{}

func (k *Keeper) Contend(lock Lock) *Contender { panic("stub") }
func (c *Contender) Set(lock Lock)             { panic("stub") }
func (c *Contender) Close()                    { panic("stub") }
func (c *Contender) Hold(ctx context.Context, fn func(context.Context, *Held) Left) End {
	panic("stub")
}
func (h *Held) Certain() bool                                           { panic("stub") }
func (h *Held) CertainChanged() <-chan struct{}                         { panic("stub") }
func (h *Held) Confirm(ctx context.Context, within time.Duration) error { panic("stub") }
func (h *Held) Bound()                                                  { panic("stub") }
func (h *Held) Ended() End                                              { panic("stub") }
