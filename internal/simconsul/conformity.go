package simconsul

import (
	"fmt"
	"net/http"
	"testing"
)

// Subject is a Consul whose answers are checked: the simulated one or a real one.
type Subject struct {
	Transport http.RoundTripper // to the agent
	Address   string            // of the agent, as a URL has it
	Node      string            // of the agent
	Prefix    string            // of keys and services that nobody else uses, without a slash
	// Grant makes a token with these permissions, which every server knows. Nil: ACLs
	// are off.
	Grant func(Token) (secret string)
}

// conversation is one test of a subject.
type conversation struct {
	*testing.T
	Subject
	token string
}

// reply is an answer.
type reply struct {
	c      *conversation
	status int
	header http.Header
	body   string
}

// Conformity checks everything that the simulation claims about requests and answers
// against a Consul. Answers that take time or need a fault are not in it.
func Conformity(t *testing.T, s Subject) {
	for i, test := range conformity {
		if test.acls != (s.Grant != nil) {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			c := &conversation{T: t, Subject: s}
			c.Prefix = fmt.Sprintf("%s-%d", s.Prefix, i)
			if test.acls {
				c.token = s.Grant(FullToken())
			}
			test.run(c)
		})
	}
}

var conformity = []struct {
	name string
	acls bool
	run  func(c *conversation)
}{
	{"an empty prefix", false, emptyPrefix},
	{"one key", false, oneKey},
	{"the index of a list", false, listIndex},
	{"a blocking query", false, blockingQuery},
	{"deletion", false, deletion},
	{"a transaction", false, transaction},
	{"refused transactions", false, refusedTransactions},
	{"a transaction that transfers a lock", false, transferOfALock},
	{"a transaction that takes a lock from another session", false, takeOfALock},
	{"malformed requests", false, malformed},
	{"a session", false, oneSession},
	{"refused sessions", false, refusedSessions},
	{"the end of a session", false, endOfSession},
	{"a lock-delay", false, lockDelay},
	{"a service", false, oneService},
	{"a check that ends a session", false, checkEndsSession},
	{"a TTL that runs out", false, ttlRunsOut},
	{"a critical check registered anew", false, registeredAnew},
	{"the agent", false, theAgent},
	{"ACLs that are off", false, aclsOff},
	{"an unknown token", true, unknownToken},
	{"keys that may not be read", true, hiddenKeys},
	{"what may not be done", true, forbidden},
	{"authorization", true, authorization},
}
