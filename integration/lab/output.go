package lab

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"time"
)

// Output is what a process has written so far. All methods are safe for concurrent use.
type Output struct {
	mu  sync.Mutex // guards all following fields
	buf bytes.Buffer
}

// Write implements [io.Writer].
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// String returns everything written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Entry is one line of a log in hclog's JSON format.
type Entry map[string]any

// Entries returns the log lines written so far, without lines that are not JSON.
func (o *Output) Entries() []Entry {
	var entries []Entry
	for line := range strings.Lines(o.String()) {
		var e Entry
		if json.Unmarshal([]byte(line), &e) == nil {
			entries = append(entries, e)
		}
	}
	return entries
}

// Get returns a field that is a text, or "" if the line has no such field.
func (e Entry) Get(key string) string {
	text, _ := e[key].(string)
	return text
}

// Message returns the line's message.
func (e Entry) Message() string { return e.Get("@message") }

// Time returns the line's time stamp, or the zero time if it has none.
func (e Entry) Time() time.Time {
	at, err := time.Parse(time.RFC3339Nano, e.Get("@timestamp"))
	if err != nil {
		return time.Time{}
	}
	return at
}
