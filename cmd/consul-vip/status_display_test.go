package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/lease/operator"
	"github.com/consul-vip/consul-vip/lease/state"
)

func TestDisplayOfChanges(t *testing.T) {
	held := []operator.Status{{VIP: "10.0.0.1", State: state.StatusHeld, Node: "h1"}}
	table := "VIP       STATE  NODE  INTERFACE  MAC  SINCE  SESSION  MEMBERS  NOTE\n" +
		"10.0.0.1  held   h1    -          -    -      -        -\n"
	none := "No addresses below web/ in Consul's KV store.\n"
	for name, tt := range map[string]struct {
		display display
		want    string
	}{
		"tables":        {display{}, table + "\n" + none + "\n" + table},
		"on a terminal": {display{terminal: true}, clearScreen + table + clearScreen + none + clearScreen + table},
		"JSON": {display{json: true, terminal: true}, `[{"vip":"10.0.0.1","state":"held","node":"h1","members":null}]` + "\n" +
			"[]\n" + `[{"vip":"10.0.0.1","state":"held","node":"h1","members":null}]` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			d := tt.display
			d.out, d.prefix, d.watch = &out, "web", true
			for _, rows := range [][]operator.Status{held, {}, held} {
				require.NoError(t, d.show(rows))
			}
			assert.Equal(t, tt.want, out.String())
		})
	}
}
