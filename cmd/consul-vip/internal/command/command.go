// Package command runs programs for a limited time, without a shell.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

const (
	// maxOutput is how much of a program's output is kept, in bytes: its beginning.
	maxOutput = 2 << 10
	// maxLine is how much of a line is quoted, in bytes.
	maxLine = 200
	// drainTime is how long the output of a program is read after its end: a child may
	// still have it open.
	drainTime = 100 * time.Millisecond
)

// Result is what a program has done.
type Result struct {
	// Output is the beginning of what it wrote to its standard output and error, where
	// every character that cannot be printed is a space, except ends of lines.
	Output string
	// Err is why it did not succeed: it could not be started, was killed because the context
	// ended, or its exit code is not 0. Nil: it did.
	Err error
}

// Run runs a program with its arguments in a process group of its own, which is killed
// when ctx ends, and after the program's end. It may look for the program in PATH. Env is
// the program's environment; nil: that of this process.
func Run(ctx context.Context, args, env []string) Result {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = env
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	kill := func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.Cancel = kill
	cmd.WaitDelay = drainTime
	out := &beginning{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return Result{Err: err}
	}
	err := cmd.Wait()
	_ = kill() // its children; an error says that there is none
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("killed: %w", context.Cause(ctx))
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil // a child that outlives it does not matter
	}
	return Result{Output: out.text(), Err: err}
}

// Reason is the error with the first line of the output; nil if the program succeeded.
func (r Result) Reason() error {
	line, _, _ := strings.Cut(r.Output, "\n")
	line = strings.TrimSpace(line[:min(len(line), maxLine)])
	if r.Err == nil || line == "" {
		return r.Err
	}
	return fmt.Errorf("%w: %s", r.Err, line)
}

// beginning keeps the beginning of what is written.
type beginning struct{ buf bytes.Buffer }

func (b *beginning) Write(p []byte) (int, error) {
	b.buf.Write(p[:min(len(p), maxOutput-b.buf.Len())])
	return len(p), nil
}

func (b *beginning) text() string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(b.buf.String(), " ")))
}
