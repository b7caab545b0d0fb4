package announcer

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// A Proof says how it was proved that no station has an address.
type Proof struct {
	By     ProofBy // the weakest way that was needed
	Rounds int     // of the host that took the most
	Took   time.Duration

	// Since is when the last round began. No station has answered for the address
	// since then. Prove has seen all claims that were received before.
	Since time.Time
}

// ProofBy is the way in which it was proved that a host has let an address go.
type ProofBy int

// The ways of a proof, the strongest first.
const (
	// ProvedByAnswer: the host answered for its own address, and not for this one.
	ProvedByAnswer ProofBy = iota
	// ProvedByWitness: the host was silent while a witness answered.
	ProvedByWitness
	// ProvedBySilence: the host was silent, and there was no witness.
	ProvedBySilence
)

// String returns the way in words, such as "silence with a witness".
func (b ProofBy) String() string {
	switch b {
	case ProvedByAnswer:
		return "answer"
	case ProvedByWitness:
		return "silence with a witness"
	case ProvedBySilence:
		return "silence"
	}
	return fmt.Sprintf("proof %d", int(b))
}

// InUseError says that a station kept answering for an address.
type InUseError struct {
	Addr netip.Addr
	MAC  net.HardwareAddr // of the station that answered last
}

// Error names the address and the MAC that has it.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is in use by %s", e.Addr, e.MAC)
}

const (
	witnessedWindows = 8
	loneWindows      = 16
	strangerWindows  = 2

	// WitnessedSilence is how long a host must be silent while a witness answers.
	WitnessedSilence = witnessedWindows * answerWindow

	// LoneSilence is how long a host must be silent if there is no witness.
	LoneSilence = loneWindows * answerWindow
)

// A finding is what one round shows about one station.
type finding int

const (
	void      finding = iota // nothing: a frame was not sent, a timer was late, a frame may wait unread, or no witness answered
	owned                    // it has the address
	letGo                    // it answered for its own address, but not for this one
	witnessed                // it was silent while a witness answered
	alone                    // it was silent, and there is no witness

	pending // not known yet
)

// evidence counts the findings of the rounds since the station last had the address.
type evidence struct {
	letGo, witnessed, silent int
}

// add counts one finding. Silence between two answers of the host breaks no row: if
// the host still had the address, both answers of that round would have got lost.
func (e *evidence) add(f finding) {
	switch f {
	case owned:
		*e = evidence{}
	case letGo:
		*e = evidence{letGo: e.letGo + 1}
	case witnessed:
		e.witnessed++
		e.silent++
	case alone:
		e.silent++
	}
}

// proves reports whether the evidence is a proof, and of which kind. rounds is how
// many answers of the host are needed.
func (e evidence) proves(rounds int) (ProofBy, bool) {
	switch {
	case e.letGo >= rounds:
		return ProvedByAnswer, true
	case e.witnessed >= witnessedWindows:
		return ProvedByWitness, true
	case e.silent >= loneWindows:
		return ProvedBySilence, true
	}
	return 0, false
}
