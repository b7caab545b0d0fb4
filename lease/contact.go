package lease

import (
	"sync"
	"time"
)

// Contact is what a Keeper knows of Consul and of its own session, at one moment.
type Contact struct {
	Node    string        // this instance's name; empty before the local agent has told
	Session string        // empty: there is none
	Left    time.Duration // until the session's hold deadline; 0: it has passed, or there is no session

	Answered     time.Time // when Consul answered last; zero: never
	FailingSince time.Time // of the first failure since; zero: the latest query for the keys was answered
	Err          error     // the latest failure; nil if there is none
}

// Contact returns what the Keeper knows now. It asks nobody.
func (k *Keeper) Contact() Contact {
	c := k.contact.get()
	s, _ := k.session.Get()
	if s == nil {
		return c
	}
	now := k.now()
	c.Session, c.Left = s.id, max(s.deadline()-now, 0)
	if renewed := time.Now().Add(s.renewedAt() - now); renewed.After(c.Answered) {
		c.Answered = renewed
	}
	return c
}

// contact collects what becomes a Contact. It is safe for concurrent use.
type contact struct {
	mu    sync.Mutex // guards the following field
	known Contact
}

func (c *contact) get() Contact {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

// named notes this instance's name.
func (c *contact) named(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known.Node = node
}

// record notes the result of a query for the keys.
func (c *contact) record(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.known.Err = err; {
	case err == nil:
		c.known.Answered, c.known.FailingSince = time.Now(), time.Time{}
	case c.known.FailingSince.IsZero():
		c.known.FailingSince = time.Now()
	}
}
