package announcer

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/consul-vip/consul-vip/internal/latest"
)

const (
	// minRound is the time between the rounds of one host, so that one disturbance of
	// the link does not swallow the answers of several.
	minRound = time.Millisecond

	// ownedDelay is how long a host that still had the address may keep its answer
	// before it is asked for its own address.
	ownedDelay = minRound / 2

	// witnessDelay is how long a host may keep its answer before a witness is asked.
	witnessDelay = 2 * time.Millisecond

	// maxLate is how late a timer may be. Frames to a host that was paused may be lost.
	maxLate = answerWindow / 2

	// broadcastRounds is how often everybody is asked: once in so many rounds.
	broadcastRounds = 4

	// ownedRate is the number of probes per second, of all calls together, to hosts
	// that still answer for the address. It leaves half of frameRate to the others.
	ownedRate = 5000

	// ownedOrdinal ranks such probes after all other frames.
	ownedOrdinal = 1 << 10

	// maxUnsent is how long Prove keeps trying when it can send no probe.
	maxUnsent = time.Second

	// maxLeads bounds what forged answers cost.
	maxLeads = 64
)

// ProofConfig says which address to probe for, and who may have it.
type ProofConfig struct {
	Addr netip.Addr // the floating address

	// Source is an address of this host on the segment, from which other hosts are
	// asked for their own addresses. Without it there is no witness, and only silence
	// proves anything.
	Source netip.Addr

	// Owners are the hosts whose kernels may still have Addr. Each must prove that it
	// does not. A Host without MACs is somebody unknown. With no Owners and no
	// Strangers there is one of these.
	Owners []Host

	// Strangers are stations that claimed Addr. Each must be silent for 20 ms.
	Strangers []net.HardwareAddr

	// Witnesses prove that silence means something. Hosts with a MAC of the Strangers do
	// not count, and of the Owners only those that have answered that they have let the
	// address go.
	Witnesses Witnesses

	// Timeout is how long answers may keep coming. With 0 the first one ends Prove.
	Timeout time.Duration
}

// Prove returns once it is proved that no station has c.Addr. In rounds at least 1 ms
// apart it sends a probe for the address to each owner, and right after it a request
// for the owner's own address. Ethernet keeps the order of unicast frames between two
// stations (IEEE 802.1Q, section 6.5.3), and a kernel answers them in order. So an owner that
// answers the second but not the first does not have the address, unless a frame got
// lost. Several such rounds in a row are proof: three on a link without loss, nine on
// one of unknown loss.
//
// The silence of an owner proves nothing unless a witness answers meanwhile. Then it
// takes eight windows of 10 ms, and sixteen if there is no witness. A witness that
// should answer but does not makes all silence void until c.Timeout; after that the
// owner's kernel should have removed the address, and silence counts as without witness.
//
// Any claim of the address is an answer. One round in four is also broadcast. A MAC of
// no owner that answers is probed directly, and has the address only if it answers
// that: switches answer broadcasts for stations that are gone.
//
// The error is an *InUseError if a stranger answers, or somebody else after c.Timeout.
// It wraps ErrNotSent if no frame could be sent for a second; whether the address is in
// use is then unknown. Else it wraps ErrUnsupportedFamily, or is ErrClosed or the cause
// of ctx.
//
// All calls of a Wire share its rate limit, and their requests to the same host.
func (w *Wire) Prove(ctx context.Context, c ProofConfig) (Proof, error) {
	addr, err := w.supported(c.Addr)
	if err != nil {
		return Proof{}, fmt.Errorf("prove that nobody has the address: %w", err)
	}
	began := time.Now()
	p := &proving{
		wire: w, config: c, addr: addr, end: began.Add(c.Timeout),
		suspects: w.suspectsOf(c), added: latest.NewWake(), done: make(chan struct{}),
	}
	l := w.listenAll(addr, p.record)
	defer l.Close()
	if err := p.run(ctx); err != nil {
		return Proof{}, err
	}
	proof := p.proof
	proof.Took = time.Since(began)
	return proof, nil
}

// proving is one call of Prove.
type proving struct {
	wire   *Wire
	config ProofConfig
	addr   netip.Addr
	end    time.Time     // from then on an answer is an InUseError
	added  latest.Wake   // set by the reader goroutine after it has added a lead
	done   chan struct{} // closed when all is proved

	mu          sync.Mutex // guards all following fields
	suspects    []*suspect
	broadcastAt time.Time // the last one
	proof       Proof
	proved      bool
}

// run starts one goroutine for each suspect and joins them.
func (p *proving) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for started := 0; ; {
		p.mu.Lock()
		fresh := slices.Clone(p.suspects[started:])
		p.mu.Unlock()
		started += len(fresh)
		for _, s := range fresh {
			g.Go(func() error { return p.prove(ctx, s) })
		}
		select {
		case <-p.added:
		case <-p.done:
			return g.Wait()
		case <-ctx.Done():
			return g.Wait()
		}
	}
}

// suspected reports whether a MAC belongs to a suspect. One that has answered that it has
// let the address go is none, and bears witness for the silence of the others.
func (p *proving) suspected(mac net.HardwareAddr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.suspects, func(s *suspect) bool {
		return s.host.Has(mac) && !(s.cleared && s.clearedBy == ProvedByAnswer)
	})
}

// record records a claim of the address. It is called by the reader goroutine.
func (p *proving) record(c Claim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proved {
		return
	}
	known := false
	for _, s := range p.suspects {
		if s.host.Has(c.MAC) {
			known = true
			if s.kind != lead || !p.broadcasting(c.Received) {
				p.answered(s, c.MAC)
			}
		}
	}
	if !known && len(p.suspects) < maxLeads {
		s := &suspect{kind: lead, host: Host{MACs: []net.HardwareAddr{c.MAC}}, mac: c.MAC, news: latest.NewWake()}
		p.suspects = append(p.suspects, s)
		p.added.Set()
	}
}

// answered counts an answer of s. p.mu is locked.
func (p *proving) answered(s *suspect, mac net.HardwareAddr) {
	s.answers++
	s.mac, s.cleared = mac, false
	if s.kind == lead {
		s.kind = owner
	}
	s.news.Set()
}

// broadcasting reports whether a frame received at this time may answer a broadcast.
// p.mu is locked.
func (p *proving) broadcasting(at time.Time) bool {
	return !p.broadcastAt.IsZero() && at.Sub(p.broadcastAt) < answerWindow
}

// clear records that s does not have the address, unless it has answered meanwhile.
// The last suspect that is cleared ends Prove.
func (p *proving) clear(s *suspect, by ProofBy) (ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.answers != s.seen {
		return false
	}
	s.cleared, s.clearedBy, s.clearedIn, s.clearedAt = true, by, s.rounds, s.round
	if slices.ContainsFunc(p.suspects, func(s *suspect) bool { return !s.cleared }) {
		return true
	}
	p.proof, p.proved = proofOf(p.suspects), true
	close(p.done)
	return true
}

// proofOf returns the proof that suspects give together. Strangers and leads matter
// only if there is nobody else.
func proofOf(suspects []*suspect) Proof {
	proof := Proof{By: ProvedBySilence}
	weakest, owners := ProvedByAnswer, false
	for _, s := range suspects {
		proof.Rounds = max(proof.Rounds, s.clearedIn)
		if s.clearedAt.After(proof.Since) {
			proof.Since = s.clearedAt
		}
		if s.kind == owner {
			weakest, owners = max(weakest, s.clearedBy), true
		}
	}
	if owners {
		proof.By = weakest
	}
	return proof
}

// leads reports whether there is a lead that is not followed up yet. p.mu is locked.
func (p *proving) leads() bool {
	return slices.ContainsFunc(p.suspects, func(s *suspect) bool { return s.kind == lead && !s.cleared })
}
