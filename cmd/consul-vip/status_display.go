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

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/agent"
	"github.com/consul-vip/consul-vip/lease/operator"
	"github.com/consul-vip/consul-vip/lease/state"
)

// Terminal control sequences (ECMA-48): clearScreen also moves the cursor to the
// top left; the others set the colour of the text that follows.
const (
	clearScreen = "\x1b[2J\x1b[H"
	red         = "\x1b[31m"
	green       = "\x1b[32m"
	yellow      = "\x1b[33m"
	plain       = "\x1b[0m"
)

// display prints one status after another. It is not safe for concurrent use.
type display struct {
	out    io.Writer
	prefix string
	json   bool
	watch  bool // expect more than one call of show

	terminal bool // out understands control sequences
	colour   bool // use those for colours
	shown    bool // show has been called
}

func newDisplay(out io.Writer, f *statusFlags) *display {
	d := &display{out: out, prefix: f.prefix, json: f.json, watch: f.watch}
	file, ok := out.(*os.File)
	d.terminal = ok && isatty.IsTerminal(file.Fd()) && os.Getenv("TERM") != "dumb"
	d.colour = d.terminal && os.Getenv("NO_COLOR") == "" // https://no-color.org
	return d
}

// show prints rows in a single Write, so that a terminal never shows half of them.
func (d *display) show(rows []operator.Status) error {
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

func (d *display) writeJSON(b *bytes.Buffer, rows []operator.Status) {
	enc := json.NewEncoder(b)
	if !d.watch {
		enc.SetIndent("", "  ")
	}
	_ = enc.Encode(rows) // cannot fail: b is a buffer, and rows hold only text, numbers and times
}

func (d *display) writeTable(b *bytes.Buffer, rows []operator.Status) {
	if len(rows) == 0 {
		fmt.Fprintf(b, "No addresses below %s/ in Consul's KV store.\n", d.prefix)
		return
	}
	var all [][]string
	for _, r := range rows {
		owner := agent.DecodeOwner(r.Owner)
		all = append(all, []string{
			r.VIP, r.State, r.Node, owner.Interface, owner.MAC, timeText(r.Since), r.Session, members(r.Members), r.Note,
		})
	}
	d.writeLines(b, tableText("VIP\tSTATE\tNODE\tINTERFACE\tMAC\tSINCE\tSESSION\tMEMBERS\tNOTE", all), rows)
}

// tableText aligns rows below a head, whose cells are separated by tabs. The last cell of a row
// is a note, which may be empty.
func tableText(head string, rows [][]string) string {
	var text bytes.Buffer
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, head)
	for _, row := range rows {
		last := len(row) - 1
		for _, cell := range row[:last] {
			fmt.Fprint(t, cmp.Or(printable(cell), "-"), "\t")
		}
		fmt.Fprintln(t, printable(row[last]))
	}
	_ = t.Flush() // cannot fail: text is a buffer
	return text.String()
}

func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format(time.RFC3339)
}

// writeLines copies the table and colours the states. Colours come after the
// layout of the columns, because a tabwriter counts control sequences as text.
func (d *display) writeLines(b *bytes.Buffer, table string, rows []operator.Status) {
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

func colourOf(status string) string {
	switch status {
	case state.StatusHeld:
		return green
	case state.StatusForeign:
		return yellow
	}
	return red
}

// members lists the members with their priorities: h1:100 h2:100(drained) h3:100(not fit).
func members(list []operator.MemberStatus) string {
	var texts []string
	for _, m := range list {
		text := fmt.Sprintf("%s:%d", m.Node, m.Priority)
		if m.Drained {
			text += "(drained)"
		}
		if m.Unfit != "" {
			text += "(not fit)"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, " ")
}

// printable replaces unprintable characters with spaces. The texts come from
// Consul, where anybody may have written a line break or a control sequence.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
