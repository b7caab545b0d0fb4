package localstatus

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/net/netutil"
)

// A client may cost this. A request and its answer fit in one packet each, or some.
const (
	connections   = 4 // at once; others wait
	maxHeader     = 4 << 10
	readTimeout   = 2 * time.Second
	writeTimeout  = 5 * time.Second
	sourceTimeout = time.Second
)

// Source tells the status of a process. It is safe for concurrent use.
type Source interface {
	// Status returns the present status, or an error when ctx ends before there is one.
	Status(ctx context.Context) (*Status, error)
}

// Handler answers GET requests for [Path] with the status as JSON, and with 503 if there is
// none within a second. It changes nothing.
func Handler(s Source) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), sourceTimeout)
		defer cancel()
		status, err := s.Status(ctx)
		if err != nil {
			http.Error(w, "no status: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(status) // fails if the client has gone
	})
	return mux
}

// Serve answers requests on l until ctx ends (nil). It closes l.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log hclog.Logger) error {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       readTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	s.SetKeepAlivesEnabled(false)
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	err := s.Serve(netutil.LimitListener(l, connections))
	if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
