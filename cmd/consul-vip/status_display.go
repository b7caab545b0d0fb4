package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/mattn/go-isatty"

	"github.com/consul-vip/consul-vip/lease"
)

// Control sequences of terminals (ECMA-48): clear the screen and go to its
// beginning; colours.
const (
	clearScreen = "\x1b[2J\x1b[H"
	red         = "\x1b[31m"
	green       = "\x1b[32m"
	yellow      = "\x1b[33m"
	plain       = "\x1b[0m"
)

// display shows one status after another. It belongs to one goroutine.
type display struct {
	out    io.Writer
	prefix string
	json   bool
	watch  bool // more than one is to come
	// terminal allows control sequences, colour those for colours.
	terminal, colour bool
	shown            bool
}

func newDisplay(out io.Writer, f *statusFlags) *display {
	d := &display{out: out, prefix: f.prefix, json: f.json, watch: f.watch}
	file, ok := out.(*os.File)
	d.terminal = ok && isatty.IsTerminal(file.Fd()) && os.Getenv("TERM") != "dumb"
	d.colour = d.terminal && os.Getenv("NO_COLOR") == "" // https://no-color.org
	return d
}

// show writes rows at once, so that a terminal never shows half of them.
func (d *display) show(rows []lease.Status) error {
	var b bytes.Buffer
	switch {
	case d.json:
		d.writeJSON(&b, rows)
	case d.watch && d.terminal:
		b.WriteString(clearScreen)
		d.writeTable(&b, rows)
	case d.shown:
		b.WriteString("\n")
		d.writeTable(&b, rows)
	default:
		d.writeTable(&b, rows)
	}
	d.shown = true
	_, err := d.out.Write(b.Bytes())
	return err
}

func (d *display) writeJSON(b *bytes.Buffer, rows []lease.Status) {
	enc := json.NewEncoder(b)
	if !d.watch {
		enc.SetIndent("", "  ")
	}
	_ = enc.Encode(rows) // a buffer takes everything, and rows are text and numbers
}

func (d *display) writeTable(b *bytes.Buffer, rows []lease.Status) {
	if len(rows) == 0 {
		fmt.Fprintf(b, "No addresses below %s/ in Consul's KV store.\n", d.prefix)
		return
	}
	var text bytes.Buffer
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VIP\tSTATE\tNODE\tINTERFACE\tMAC\tSINCE\tSESSION\tMEMBERS\tNOTE")
	for _, r := range rows {
		since := ""
		if r.Since != nil {
			since = r.Since.Format(time.RFC3339)
		}
		cells := []string{r.VIP, r.State, r.Node, r.Interface, r.MAC, since, r.Session, members(r.Members)}
		for _, c := range cells {
			fmt.Fprint(t, cmp.Or(printable(c), "-"), "\t")
		}
		fmt.Fprintln(t, printable(r.Note))
	}
	_ = t.Flush() // into a buffer
	d.writeLines(b, text.String(), rows)
}

// writeLines colours the states, which must not be done before the columns are
// laid out: a tabwriter counts control sequences as text.
func (d *display) writeLines(b *bytes.Buffer, table string, rows []lease.Status) {
	lines := strings.SplitAfter(table, "\n")
	column := strings.Index(lines[0], "STATE")
	b.WriteString(lines[0])
	for i, r := range rows {
		line := strings.TrimRight(lines[i+1], " \n") + "\n"
		if end := column + len(r.State); d.colour {
			line = line[:column] + colourOf(r.State) + line[column:end] + plain + line[end:]
		}
		b.WriteString(line)
	}
}

func colourOf(state string) string {
	switch state {
	case lease.StatusHeld:
		return green
	case lease.StatusForeign:
		return yellow
	}
	return red
}

// members tells who contends, with the priorities: h1:100 h2:100(drained).
func members(list []lease.MemberStatus) string {
	var texts []string
	for _, m := range list {
		text := fmt.Sprintf("%s:%d", m.Node, m.Priority)
		if m.Drained {
			text += "(drained)"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, " ")
}

// printable is a text on one line. Others may have written it: it must not
// control a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
