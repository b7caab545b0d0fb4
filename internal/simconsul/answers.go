package simconsul

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// Answer answers a request by itself, as a proxy or a broken agent would.
func Answer(code int, contentType, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
		return true
	}
}

// Only restricts an interception to paths that begin so.
func Only(path string, f func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasPrefix(r.URL.Path, path) && f(w, r)
	}
}

// Denying answers for a token that lacks the permissions to these resources.
func Denying(resources ...string) func(http.ResponseWriter, *http.Request) bool {
	return Only(AuthorizePath, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return true
		}
		var asked []map[string]any
		_ = json.NewDecoder(r.Body).Decode(&asked)
		for _, a := range asked {
			a["Allow"] = !strings.Contains(strings.Join(resources, " "), a["Resource"].(string))
		}
		_ = json.NewEncoder(w).Encode(asked)
		return true
	})
}

// Filtered answers a list from which Consul left out everything that the token may
// not read.
func Filtered(w http.ResponseWriter, r *http.Request) bool {
	if !r.URL.Query().Has("recurse") {
		return false
	}
	w.Header().Set("X-Consul-Index", "99")
	w.Header().Set("X-Consul-LastContact", "0")
	w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
	w.WriteHeader(http.StatusNotFound)
	return true
}
