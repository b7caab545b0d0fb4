package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/probe"
)

// showProbe prints the results, as a table or as JSON.
func showProbe(out io.Writer, asJSON, compared bool, results []probe.Result) error {
	var b bytes.Buffer
	if asJSON {
		writeProbeJSON(&b, results)
	} else {
		writeProbeTable(&b, compared, results)
	}
	_, err := out.Write(b.Bytes())
	return err
}

// probeRow is a result as JSON.
type probeRow struct {
	Address   string         `json:"address"`
	Interface string         `json:"interface,omitempty"`
	Problems  []string       `json:"problems"`
	State     string         `json:"state,omitempty"` // of the lock in Consul, as "consul-vip status" gives it
	Node      string         `json:"node,omitempty"`  // that has the lock
	Stations  []probeStation `json:"stations"`
	Neighbor  string         `json:"neighbor,omitempty"` // the MAC to which this host sends packets
	Error     string         `json:"error,omitempty"`
}

// probeStation is a station that has the address, as JSON.
type probeStation struct {
	MAC    string  `json:"mac"`
	Node   string  `json:"node,omitempty"`
	Millis float64 `json:"milliseconds"`
	Direct bool    `json:"direct"`
	Here   bool    `json:"here"`
}

func writeProbeJSON(b *bytes.Buffer, results []probe.Result) {
	rows := []probeRow{}
	for _, r := range results {
		row := probeRow{
			Address: r.Addr.String(), Interface: r.Interface, Problems: []string{}, State: r.Status, Node: r.Node,
			Stations: []probeStation{}, Neighbor: r.Neighbor.String(),
		}
		for _, p := range r.Problems {
			row.Problems = append(row.Problems, string(p))
		}
		for _, s := range r.Stations {
			row.Stations = append(row.Stations, probeStation{s.MAC.String(), s.Node, millis(s.Delay), s.Direct, s.Here})
		}
		if r.Err != nil {
			row.Error = r.Err.Error()
		}
		rows = append(rows, row)
	}
	enc := json.NewEncoder(b)
	enc.SetIndent("", "  ")
	_ = enc.Encode(rows) // cannot fail: b is a buffer, and rows hold only text and numbers
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func writeProbeTable(b *bytes.Buffer, compared bool, results []probe.Result) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	if compared {
		fmt.Fprintln(t, "ADDRESS\tRESULT\tLOCK\tNODE\tANSWERED BY\tMAC\tDELAY\tNOTE")
	} else {
		fmt.Fprintln(t, "ADDRESS\tINTERFACE\tMAC\tDELAY\tNOTE")
	}
	for _, r := range results {
		stations := r.Stations
		if len(stations) == 0 {
			stations = []probe.Station{{}} // one line all the same
		}
		for i, s := range stations {
			first, station := []string{r.Addr.String(), r.Interface}, []string{s.MAC.String(), delay(s)}
			if compared {
				first, station = []string{r.Addr.String(), resultText(r), r.Status, r.Node}, append([]string{s.Node}, station...)
			}
			for _, c := range first {
				if i > 0 {
					fmt.Fprint(t, "\t") // it is the same address
					continue
				}
				fmt.Fprint(t, cmp.Or(printable(c), "-"), "\t")
			}
			for _, c := range station {
				fmt.Fprint(t, cmp.Or(printable(c), "-"), "\t")
			}
			fmt.Fprintln(t, printable(note(r, s, i == 0)))
		}
	}
	_ = t.Flush() // cannot fail: b is a buffer
}

// resultText names the problems of an address.
func resultText(r probe.Result) string {
	var texts []string
	for _, p := range r.Problems {
		texts = append(texts, string(p))
	}
	return cmp.Or(strings.Join(texts, ", "), "ok")
}

// delay is how long the answer took.
func delay(s probe.Station) string {
	if s.MAC == nil || s.Here {
		return ""
	}
	return fmt.Sprintf("%.2f ms", millis(s.Delay))
}

// note explains a line of the table; first: it is the first of its address.
func note(r probe.Result, s probe.Station, first bool) string {
	var notes []string
	switch {
	case r.Err != nil:
		notes = append(notes, r.Err.Error())
	case s.MAC == nil && r.Status == "":
		notes = append(notes, "nobody answers")
	case s.Here:
		notes = append(notes, "this host")
	case s.MAC != nil && !s.Direct:
		notes = append(notes, "silent when asked directly: another device may have answered for it")
	}
	if first && slices.Contains(r.Problems, probe.WrongNeighbor) {
		notes = append(notes, "this host sends to "+r.Neighbor.String())
	}
	return strings.Join(notes, "; ")
}
