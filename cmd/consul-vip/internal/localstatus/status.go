// Package localstatus tells the status of one agent on its own host, over a unix socket, so
// that it can be read while Consul is down: the [Status], its HTTP handler, the socket and
// the client.
package localstatus

import "time"

// Path is where the status is read with a GET request.
const Path = "/v1/status"

// Status is what an agent knows of itself and of the addresses that it is configured for, at
// one moment.
type Status struct {
	Node    string    `json:"node,omitempty"` // empty before the local Consul agent has told
	Version string    `json:"version"`
	Prefix  string    `json:"prefix"`
	Started time.Time `json:"started"`
	Consul  Consul    `json:"consul"`
	// The lists are ordered by address or name, and the transitions by time.
	Addresses   []Address    `json:"addresses"`
	Checks      []Check      `json:"checks"`
	HostChecks  []HostCheck  `json:"host_checks"`
	Transitions []Transition `json:"transitions"` // the last ones
}

// Consul is what the agent knows of Consul.
type Consul struct {
	// Answers: the latest query for the keys was answered.
	Answers      bool       `json:"answers"`
	LastContact  *time.Time `json:"last_contact,omitempty"`
	FailingSince *time.Time `json:"failing_since,omitempty"`
	Error        string     `json:"error,omitempty"`
	// Session is the beginning of the session's ID: all of it is enough to end the
	// session.
	Session string `json:"session,omitempty"`
	// HoldLeft is how long the agent may hold addresses without another answer.
	HoldLeft *Milliseconds `json:"hold_left_ms,omitempty"`
}

// Address is a floating address on this host.
type Address struct {
	VIP       string     `json:"vip"`
	State     string     `json:"state"` // standby, acquired, active or releasing; empty at the start
	Since     *time.Time `json:"since,omitempty"`
	Reason    string     `json:"reason,omitempty"` // of the last transition
	Interface string     `json:"interface,omitempty"`

	// Owner is the node that holds the lock, and Lock the lock's state in Consul, as far as
	// this host knows.
	Lock  string `json:"lock"`
	Owner string `json:"owner,omitempty"`
	Note  string `json:"note,omitempty"` // as in the status that Consul knows

	// HoldLeft and LifetimeLeft are for how long this host may hold the address, and for how
	// long the kernel keeps it without a refresh; nil: it does not have it.
	HoldLeft     *Milliseconds `json:"hold_left_ms,omitempty"`
	LifetimeLeft *Milliseconds `json:"lifetime_left_ms,omitempty"`

	// Failing is what does not work although this host holds the lock, such as a hook that
	// attaches the address.
	Failing string `json:"failing,omitempty"`

	Eligible    bool          `json:"eligible"`
	Ineligible  string        `json:"ineligible,omitempty"` // why this host cannot serve it
	BackoffLeft *Milliseconds `json:"backoff_left_ms,omitempty"`
	Require     []string      `json:"require,omitempty"` // the checks that it requires
	Fitness     string        `json:"fitness,omitempty"` // empty: it requires none
	Unfit       string        `json:"unfit,omitempty"`   // why one of them is not fit
}

// The values of Fitness.
const (
	Fit            = "fit"
	NotFit         = "not fit"
	FitnessUnknown = "unknown" // one of them has not run often enough
)

// Check is a check of a service on this host.
type Check struct {
	Name     string    `json:"name"`
	Fit      bool      `json:"fit"`
	Known    bool      `json:"known"` // false: it has not run often enough
	Flapping bool      `json:"flapping"`
	Reason   string    `json:"reason,omitempty"` // why it is not fit
	Since    time.Time `json:"since"`
}

// The states of a HostCheck.
const (
	HostUnknown = "unknown" // it has not answered often enough to count as dead later
	HostAlive   = "alive"
	HostDead    = "dead"
)

// HostCheck is a check of the host that owns addresses for which this host is in line.
type HostCheck struct {
	Node      string    `json:"node"`
	Host      string    `json:"host"` // the address that it is asked for
	Interface string    `json:"interface"`
	Addresses []string  `json:"addresses"`
	State     string    `json:"state"`
	Since     time.Time `json:"since"`
	Missed    int       `json:"missed"` // intervals in a row without an answer
	Misses    int       `json:"misses"` // as many make it dead
}

// Transition is a change of an address's state.
type Transition struct {
	Time   time.Time `json:"time"`
	VIP    string    `json:"vip"`
	From   string    `json:"from,omitempty"`
	To     string    `json:"to"`
	Reason string    `json:"reason"`
}

// Milliseconds is a duration as the JSON has it.
type Milliseconds int64

// Left returns d as Milliseconds, at least 0.
func Left(d time.Duration) *Milliseconds {
	ms := Milliseconds(max(d, 0).Milliseconds())
	return &ms
}

// Duration returns m as a duration.
func (m Milliseconds) Duration() time.Duration { return time.Duration(m) * time.Millisecond }
