// Package cloudapi has HTTP servers that answer as the APIs of Hetzner Cloud and of Exoscale
// document, as far as the hooks in examples/cloud use them. It is for tests.
package cloudapi

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"slices"
	"sync"
)

// Fault is a way in which an API misbehaves.
type Fault string

// The faults. Locked is for requests that change something, and FailedTask and EndlessTask for
// what such a request starts; the others are for every request.
const (
	NoFault         Fault = ""
	TooManyRequests Fault = "HTTP 429"
	ServerError     Fault = "HTTP 500"
	ErrorPage       Fault = "HTTP 502 with an HTML page"
	LoginPage       Fault = "HTTP 200 with an HTML page"
	CutOff          Fault = "half of a JSON object"
	Hang            Fault = "no answer"
	Locked          Fault = "HTTP 423, another task is running"
	FailedTask      Fault = "the task fails"
	EndlessTask     Fault = "the task does not end"
)

// Request is a request that an API received.
type Request struct {
	Method, Path, Query, Body string
}

// recorder keeps what an API received and how it misbehaves. Its methods may be called
// concurrently.
type recorder struct {
	mu       sync.Mutex
	fault    Fault
	requests []Request
}

// SetFault sets how the API misbehaves from now on.
func (r *recorder) SetFault(fault Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = fault
}

// Requests returns all requests so far.
func (r *recorder) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// Changes returns the requests so far that were not only to read.
func (r *recorder) Changes() []Request {
	return slices.DeleteFunc(r.Requests(), func(request Request) bool { return request.Method == http.MethodGet })
}

// record records a request and returns its body and the present fault. The body can be read
// again.
func (r *recorder) record(request *http.Request) (body []byte, fault Fault) {
	read, _ := io.ReadAll(request.Body) // an incomplete body is not valid JSON
	request.Body = io.NopCloser(bytes.NewReader(read))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, Request{request.Method, request.URL.EscapedPath(), request.URL.RawQuery, string(read)})
	return read, r.fault
}

// apiError is an error as the API of a provider describes it.
type apiError struct {
	status        int
	code, message string
}

const page = "<!DOCTYPE html>\n<html><head><title>Oops</title></head>\n<body>a page of a proxy</body></html>\n"

// misbehave answers with the fault if it concerns the request, and returns true. It blocks in
// Hang until the client has gone.
func misbehave(w http.ResponseWriter, r *http.Request, fault Fault, fail func(http.ResponseWriter, apiError)) bool {
	switch fault {
	case TooManyRequests:
		fail(w, apiError{http.StatusTooManyRequests, "rate_limit_exceeded", "limit of 3600 requests per hour reached"})
	case ServerError:
		fail(w, apiError{http.StatusInternalServerError, "server_error", "error within\nthe API backend"})
	case Locked:
		if r.Method == http.MethodGet {
			return false
		}
		fail(w, locked)
	case ErrorPage:
		answer(w, http.StatusBadGateway, "text/html", page)
	case LoginPage:
		answer(w, http.StatusOK, "text/html", page)
	case CutOff:
		answer(w, http.StatusOK, "application/json", `{"action": {"status": "succ`)
	case Hang:
		<-r.Context().Done()
	default:
		return false
	}
	return true
}

var locked = apiError{http.StatusLocked, "locked", "there is already an action running"}

// answer writes a response. The client may have gone, which is not an error of the test.
func answer(w http.ResponseWriter, status int, contentType, body string) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func answerJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err) // values of this package can be marshalled
	}
	answer(w, status, "application/json", string(body))
}

// Metadata answers as a provider's metadata service: each value is one page, of its key's
// name, below any path.
func Metadata(values map[string]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		value, ok := values[path.Base(r.URL.Path)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		answer(w, http.StatusOK, "text/plain", value)
	})
}
