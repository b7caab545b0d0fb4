package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

func TestScheduleDependsOnSeedOnly(t *testing.T) {
	require.Equal(t, Schedule(lab.Clients, 7, 200), Schedule(lab.Clients, 7, 200))
	require.NotEqual(t, Schedule(lab.Clients, 7, 200), Schedule(lab.Clients, 8, 200))
	// A shorter run is the beginning of a longer one, except for its last group.
	short, long := Schedule(lab.Clients, 7, 50), Schedule(lab.Clients, 7, 200)
	require.Equal(t, short[:len(short)-1], long[:len(short)-1])
}

func TestSchedule(t *testing.T) {
	for _, world := range lab.Worlds {
		t.Run(string(world), func(t *testing.T) { testSchedule(t, world) })
	}
}

func testSchedule(t *testing.T, world lab.World) {
	for seed := range uint64(50) {
		number, pairs := 0, 0
		seen := make(map[Kind]int)
		for _, g := range Schedule(world, seed, 200) {
			require.GreaterOrEqual(t, g.Pause, 200*time.Millisecond)
			require.LessOrEqual(t, g.Pause, 5*time.Second)
			require.LessOrEqual(t, len(g.Faults), 2)
			if len(g.Faults) == 2 {
				pairs++
				require.True(t, compatible(g.Faults[0], g.Faults[1]), "%v", g.Faults)
				require.LessOrEqual(t, g.Faults[1].After, 3*time.Second)
			}
			for _, f := range g.Faults {
				number++
				require.Equal(t, number, f.Number)
				seen[f.Kind]++
				traits := kinds[f.Kind]
				require.GreaterOrEqual(t, f.Lasts, traits.shortest)
				require.LessOrEqual(t, f.Lasts, traits.longest)
				require.Less(t, f.Host, hosts)
				require.Less(t, f.VIP, vips)
				require.LessOrEqual(t, f.Restart, 2*time.Second)
				require.True(t, g.Settle || !traits.consul, "Consul has time to recover")
			}
		}
		require.Equal(t, 200, number)
		require.Greater(t, pairs, 20)
		for _, k := range kindsOf(world) {
			require.InDelta(t, 200/len(kindsOf(world)), seen[k], 1, "every kind comes about equally often: %s", k)
		}
	}
}

// TestKindsOf has a fault of the addresses' link alone only where Consul has another.
func TestKindsOf(t *testing.T) {
	require.Contains(t, kindsOf(lab.Clients), LinkDown)
	require.NotContains(t, kindsOf(lab.ServersOnHosts), LinkDown)
	require.Subset(t, kindsOf(lab.Clients), kindsOf(lab.ServersOnHosts))
}

func TestCompatible(t *testing.T) {
	lock := Fault{Kind: ConsulLock, VIP: 1}
	for _, test := range []struct {
		a, b Fault
		want bool
	}{
		{Fault{Kind: Freeze}, Fault{Kind: Freeze}, true},
		{Fault{Kind: HostDeath}, Fault{Kind: ConsulRestart}, true},
		{lock, Fault{Kind: Stop, VIP: 2}, true},
		{lock, Fault{Kind: KeyDeleted, VIP: 1}, false},
		{lock, Fault{Kind: LeaderCrash, VIP: 2}, false},
		{lock, Fault{Kind: ConsulLock, VIP: 2}, false},
		{Fault{Kind: ForeignHost, VIP: 1}, Fault{Kind: ForeignHost, VIP: 2}, false},
		{Fault{Kind: ForeignHost, VIP: 1}, Fault{Kind: ForeignClaim, VIP: 1}, true},
	} {
		require.Equal(t, test.want, compatible(test.a, test.b), "%s and %s", test.a, test.b)
		require.Equal(t, test.want, compatible(test.b, test.a), "%s and %s", test.b, test.a)
	}
}
