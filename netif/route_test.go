package netif

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// routeMessage returns the payload of a route message.
func routeMessage(bits, table byte, attrs ...[]byte) []byte {
	m := []byte{unix.AF_INET, bits, 0, 0, table, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	return slices.Concat(append([][]byte{m}, attrs...)...)
}

// attr32 encodes an attribute with a number.
func attr32(typ uint16, n uint32) []byte {
	return attr(typ, binary.NativeEndian.AppendUint32(nil, n)...)
}

// nextHop encodes one next hop of several.
func nextHop(index uint32, attrs ...[]byte) []byte {
	rest := slices.Concat(attrs...)
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtNexthop+len(rest)))
	b = binary.NativeEndian.AppendUint32(append(b, 0, 0), index)
	return append(b, rest...)
}

func TestParseRoute(t *testing.T) {
	router := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, last}) }
	for _, tt := range []struct {
		name string
		m    []byte
		want route
	}{
		{
			name: "default",
			m: routeMessage(0, unix.RT_TABLE_MAIN, attr32(unix.RTA_TABLE, unix.RT_TABLE_MAIN), attr32(unix.RTA_PRIORITY, 100),
				attr(unix.RTA_GATEWAY, 10, 77, 0, 1), attr32(unix.RTA_OIF, 3)),
			want: route{table: unix.RT_TABLE_MAIN, metric: 100, hops: []hop{{3, router(1)}}},
		},
		{
			name: "of a subnet, on the link, in a table above 255",
			m:    routeMessage(24, unix.RT_TABLE_COMPAT, attr32(unix.RTA_TABLE, 1000), attr32(unix.RTA_OIF, 70000)),
			want: route{bits: 24, table: 1000, hops: []hop{{index: 70000}}},
		},
		{
			name: "several next hops",
			m: routeMessage(0, unix.RT_TABLE_MAIN, attr(unix.RTA_MULTIPATH, slices.Concat(
				nextHop(3, attr(unix.RTA_GATEWAY, 10, 77, 0, 1)), nextHop(4), nextHop(5, attr(unix.RTA_GATEWAY, 10, 77, 0, 2)))...)),
			want: route{table: unix.RT_TABLE_MAIN, hops: []hop{{3, router(1)}, {index: 4}, {5, router(2)}}},
		},
		{name: "without a next hop", m: routeMessage(0, unix.RT_TABLE_MAIN), want: route{table: unix.RT_TABLE_MAIN, hops: []hop{{}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseRoute(tt.m)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestParseRouteRefuses(t *testing.T) {
	for name, m := range map[string][]byte{
		"nothing":            {},
		"attribute too long": routeMessage(0, 0, attr32(unix.RTA_OIF, 3)[:6]),
		"next hop too short": routeMessage(0, 0, attr(unix.RTA_MULTIPATH, 4, 0, 0, 0, 3, 0, 0, 0)),
		"next hop too long":  routeMessage(0, 0, attr(unix.RTA_MULTIPATH, 99, 0, 0, 0, 3, 0, 0, 0)),
		"next hop damaged":   routeMessage(0, 0, attr(unix.RTA_MULTIPATH, nextHop(3, []byte{0, 0, 0, 0})...)),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseRoute(m)
			require.Error(t, err)
		})
	}
}

func FuzzParseRoute(f *testing.F) {
	f.Add(routeMessage(0, 254, attr32(unix.RTA_OIF, 3), attr(unix.RTA_GATEWAY, 10, 77, 0, 1)))
	f.Add(routeMessage(0, 254, attr(unix.RTA_MULTIPATH, nextHop(3, attr(unix.RTA_GATEWAY, 10, 77, 0, 1))...)))
	f.Add(routeMessage(0, 254, attr(unix.RTA_MULTIPATH, nextHop(3, []byte{5, 0, unix.RTA_GATEWAY, 0, 10})...)))
	f.Fuzz(func(t *testing.T, m []byte) {
		r, err := parseRoute(m)
		if err == nil {
			require.LessOrEqual(t, len(r.hops)*unix.SizeofRtNexthop, len(m))
		}
	})
}

func TestGateway(t *testing.T) {
	addr := netip.MustParseAddr
	via := func(table, metric uint32, gateway string) route {
		return route{table: table, metric: metric, hops: []hop{{3, addr(gateway)}}}
	}
	onLink := route{table: unix.RT_TABLE_MAIN, hops: []hop{{index: 3}}}
	elsewhere := route{table: unix.RT_TABLE_MAIN, hops: []hop{{4, addr("10.78.0.1")}}}
	main100, main200, other := via(unix.RT_TABLE_MAIN, 100, "10.77.0.1"), via(unix.RT_TABLE_MAIN, 200, "10.77.0.2"), via(1000, 0, "10.77.0.3")
	for _, tt := range []struct {
		name   string
		routes []route
		want   netip.Addr
	}{
		{name: "none"},
		{name: "on the link, or through another", routes: []route{onLink, elsewhere}},
		{name: "metric", routes: []route{main200, main100}, want: addr("10.77.0.1")},
		{name: "main table", routes: []route{other, main200}, want: addr("10.77.0.2")},
		{name: "only another table, such as a VRF's", routes: []route{onLink, other}, want: addr("10.77.0.3")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, gateway(tt.routes, 3))
		})
	}
}
