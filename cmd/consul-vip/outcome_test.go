package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/consul-vip/consul-vip/lease/operator"
	"github.com/consul-vip/consul-vip/lease/state"
)

func TestTransition(t *testing.T) {
	for want, out := range map[string]operator.Outcome{
		"10.0.0.1: h1 -> h2 in 20 ms":               {From: "h1", State: state.StatusHeld, Node: "h2", Took: 20 * time.Millisecond},
		"10.0.0.1: nobody -> h2 in 1.2 s":           {State: state.StatusHeld, Node: "h2", Took: 1200 * time.Millisecond},
		"10.0.0.1: h1 -> nobody in 0 ms":            {From: "h1", State: state.StatusFree},
		"10.0.0.1: h1 -> another program in 999 ms": {From: "h1", State: state.StatusForeign, Took: 999 * time.Millisecond},
		"10.0.0.1: h1 holds it":                     {From: "h1", State: state.StatusHeld, Node: "h1"},
		"10.0.0.1: no node holds it":                {State: state.StatusFree},
	} {
		out.VIP = "10.0.0.1"
		assert.Equal(t, want, transition(out))
	}
}

func TestOwnership(t *testing.T) {
	assert.Equal(t, "h1 holds it", ownership(operator.Outcome{State: state.StatusHeld, Node: "h1"}))
	assert.Equal(t, "another program holds its lock", ownership(operator.Outcome{State: state.StatusForeign}))
	assert.Equal(t, "no node holds it", ownership(operator.Outcome{State: state.StatusFree}))
}
