package lab

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes of the commands that use a lab.
const (
	ExitFailed      = 1
	ExitUsage       = 2
	ExitInterrupted = 130 // as a shell reports SIGINT
)

// Main does a command's work and returns the command's exit code. SIGINT and SIGTERM
// end the work's context; the work returns when all that it started has ended. Main
// reports a failure on standard error, after the command's name.
func Main(command string, work func(ctx context.Context) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := work(ctx)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintf(os.Stderr, "\n%s: interrupted; everything that was started has ended\n", command)
		return ExitInterrupted
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v\n", command, err)
		return ExitFailed
	}
	return 0
}
