package cloudapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// FloatingIP is a Floating IP of Hetzner Cloud. Server is the ID of the server that it is
// assigned to, or 0.
type FloatingIP struct {
	ID     int64
	IP     string
	Server int64
}

// HetznerConfig describes a project. Polls is how often an action must be read until it has
// ended. StrictAssign refuses to assign an address that is assigned to any server: the
// documentation of floating_ip_assigned leaves this open.
type HetznerConfig struct {
	Token        string
	FloatingIPs  []FloatingIP
	Polls        int
	StrictAssign bool
}

// Hetzner is the API of Hetzner Cloud (https://docs.hetzner.cloud/reference/cloud), below
// /v1. Its methods may be called concurrently.
type Hetzner struct {
	recorder
	config  HetznerConfig
	actions []*action
	mux     *http.ServeMux
}

// action changes the server of a Floating IP when it ends. Its ID is its index plus one.
type action struct {
	command string
	left    int
	status  string
	ip      *FloatingIP
	server  int64
}

// NewHetzner returns an API with one project.
func NewHetzner(config HetznerConfig) *Hetzner {
	config.FloatingIPs = slices.Clone(config.FloatingIPs)
	h := &Hetzner{config: config, mux: http.NewServeMux()}
	h.mux.HandleFunc("GET /v1/floating_ips", h.list)
	h.mux.HandleFunc("GET /v1/floating_ips/{id}", h.get)
	h.mux.HandleFunc("POST /v1/floating_ips/{id}/actions/{command}", h.start)
	h.mux.HandleFunc("GET /v1/actions/{id}", h.readAction)
	h.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { hetznerError(w, notFound) })
	return h
}

// Server returns the ID of the server that the Floating IP is assigned to, or 0.
func (h *Hetzner) Server(id int64) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.find(strconv.FormatInt(id, 10)).Server
}

// SetServer assigns the Floating IP to the server, or to none if it is 0, at once.
func (h *Hetzner) SetServer(id, server int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.find(strconv.FormatInt(id, 10)).Server = server
}

var notFound = apiError{http.StatusNotFound, "not_found", "entity not found"}

func hetznerError(w http.ResponseWriter, e apiError) {
	answerJSON(w, e.status, map[string]any{"error": map[string]any{"code": e.code, "message": e.message, "details": nil}})
}

func (h *Hetzner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, fault := h.record(r)
	if misbehave(w, r, fault, hetznerError) {
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+h.config.Token {
		hetznerError(w, apiError{http.StatusUnauthorized, "unauthorized", "unable to authenticate"})
		return
	}
	if r.Method != http.MethodGet && !json.Valid(body) {
		hetznerError(w, apiError{http.StatusBadRequest, "json_error", "invalid JSON input in your request"})
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mux.ServeHTTP(w, r)
}

func (h *Hetzner) find(id string) *FloatingIP {
	for i := range h.config.FloatingIPs {
		if strconv.FormatInt(h.config.FloatingIPs[i].ID, 10) == id {
			return &h.config.FloatingIPs[i]
		}
	}
	return nil
}

func (ip FloatingIP) describe() map[string]any {
	family, server := "ipv4", any(nil)
	if strings.Contains(ip.IP, ":") {
		family = "ipv6"
	}
	if ip.Server != 0 {
		server = ip.Server
	}
	return map[string]any{
		"id": ip.ID, "name": "name", "description": "a \"description\"", "created": "2016-01-30T23:55:00+00:00",
		"ip": ip.IP, "type": family, "server": server, "blocked": false,
		"dns_ptr":       []any{map[string]any{"ip": ip.IP, "dns_ptr": "server.example.com"}},
		"home_location": map[string]any{"id": 1, "name": "fsn1"},
		"labels":        map[string]any{}, "protection": map[string]any{"delete": false},
	}
}

// list answers with a page: 25 addresses, or up to 50 on request.
func (h *Hetzner) list(w http.ResponseWriter, r *http.Request) {
	size, number := 25, 1
	if n, err := strconv.Atoi(r.URL.Query().Get("per_page")); err == nil {
		size = min(n, 50)
	}
	if n, err := strconv.Atoi(r.URL.Query().Get("page")); err == nil {
		number = n
	}
	all := h.config.FloatingIPs
	pages := slices.Collect(slices.Chunk(all, size))
	items, next := []any{}, any(nil)
	if number <= len(pages) {
		for _, ip := range pages[number-1] {
			items = append(items, ip.describe())
		}
	}
	if number < len(pages) {
		next = number + 1
	}
	answerJSON(w, http.StatusOK, map[string]any{"floating_ips": items, "meta": map[string]any{"pagination": map[string]any{
		"page": number, "per_page": size, "next_page": next, "last_page": len(pages), "total_entries": len(all),
	}}})
}

func (h *Hetzner) get(w http.ResponseWriter, r *http.Request) {
	ip := h.find(r.PathValue("id"))
	if ip == nil {
		hetznerError(w, notFound)
		return
	}
	answerJSON(w, http.StatusOK, map[string]any{"floating_ip": ip.describe()})
}

// start starts an action. One that is running for the same address locks it.
func (h *Hetzner) start(w http.ResponseWriter, r *http.Request) {
	var body struct{ Server int64 }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		hetznerError(w, apiError{http.StatusBadRequest, "json_error", err.Error()})
		return
	}
	ip, command := h.find(r.PathValue("id")), r.PathValue("command")
	if e := h.refuse(ip, command, body.Server); e != nil {
		hetznerError(w, *e)
		return
	}
	h.actions = append(h.actions, &action{command: command, left: h.config.Polls, status: "running", ip: ip, server: body.Server})
	h.progress(w, len(h.actions), http.StatusCreated)
}

func (h *Hetzner) refuse(ip *FloatingIP, command string, server int64) *apiError {
	running := func(a *action) bool { return a.ip == ip && a.status == "running" }
	switch {
	case ip == nil || command != "assign" && command != "unassign":
		return &notFound
	case slices.ContainsFunc(h.actions, running):
		return &locked
	case command == "assign" && (ip.Server == server || h.config.StrictAssign && ip.Server != 0):
		return &apiError{http.StatusUnprocessableEntity, "floating_ip_assigned", "the Floating IP is already assigned"}
	case command == "assign" && server == 0, command == "unassign" && ip.Server == 0:
		return &apiError{http.StatusUnprocessableEntity, "invalid_input", "invalid input"}
	}
	return nil
}

func (h *Hetzner) readAction(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || id < 1 || id > len(h.actions) {
		hetznerError(w, notFound)
		return
	}
	h.progress(w, id, http.StatusOK)
}

// progress ends an action that has been read often enough, and answers with it.
func (h *Hetzner) progress(w http.ResponseWriter, id, status int) {
	a, failure := h.actions[id-1], any(nil)
	switch {
	case a.status != "running" || h.fault == EndlessTask:
	case a.left > 0:
		a.left--
	case h.fault == FailedTask:
		a.status = "error"
	default:
		a.status, a.ip.Server = "success", a.server
	}
	if a.status == "error" {
		failure = map[string]any{"code": "action_failed", "message": "Action failed"}
	}
	answerJSON(w, status, map[string]any{"action": map[string]any{
		"id": id, "command": a.command + "_floating_ip", "status": a.status, "progress": 0, "error": failure,
		"started": "2016-01-30T23:50:00+00:00", "finished": nil,
		"resources": []any{map[string]any{"id": a.ip.ID, "type": "floating_ip"}},
	}})
}
