package announcer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// knowNoLoss makes the Wire know that the link to mac loses nothing: four rounds prove.
func (w *Wire) knowNoLoss(mac net.HardwareAddr) {
	for range 2400 {
		w.losses.add(mac, false, time.Now())
	}
}

// A proving scene: what the stations of the segment do, and what comes of it.
type scene struct {
	peer, third, gateway *station
	sock                 *fakeSocket
	wire                 *Wire
}

func (s *scene) after(d time.Duration, f func()) { time.AfterFunc(d, f) }

// arrange makes a segment with a peer, a third host and a gateway.
func arrange(t *testing.T, w *Wire, sock *fakeSocket) *scene {
	t.Helper()
	s := &scene{
		peer: newStation(peerMAC, peerAddr), third: newStation(thirdMAC, thirdAddr), gateway: newStation(gatewayMAC, gatewayAddr),
		sock: sock, wire: w,
	}
	sock.connect(t, s.peer, s.third, s.gateway)
	w.knowNoLoss(peerMAC)
	w.knowNoLoss(thirdMAC)
	return s
}

func TestProve(t *testing.T) {
	const ms = time.Millisecond
	base := ProofConfig{
		Addr: vip, Source: source, Owners: []Host{peerHost}, Witnesses: Witnesses{Gateway: gatewayHost}, Timeout: time.Second,
	}
	with := func(change func(c *ProofConfig)) ProofConfig {
		c := base
		change(&c)
		return c
	}
	for name, tc := range map[string]struct {
		config ProofConfig
		begin  func(s *scene)
		by     ProofBy
		inUse  net.HardwareAddr // if set, the error
		took   time.Duration    // or a round less or more
	}{
		"let go": {config: base, by: ProvedByAnswer, took: 3 * ms},
		"let go, unknown loss": {
			config: base,
			begin:  func(s *scene) { s.wire.losses = losses{} },
			by:     ProvedByAnswer, took: 8 * ms,
		},
		"owned, then let go": {
			config: base,
			begin: func(s *scene) {
				s.peer.set(vip, true)
				s.after(500*ms+ms/2, func() { s.peer.set(vip, false) })
			},
			by: ProvedByAnswer, took: 504 * ms,
		},
		"owned for too long": {
			config: base,
			begin:  func(s *scene) { s.peer.set(vip, true) },
			inUse:  peerMAC, took: 1000 * ms,
		},
		"owned, no timeout": {
			config: with(func(c *ProofConfig) { c.Timeout = 0 }),
			begin:  func(s *scene) { s.peer.set(vip, true); s.peer.delay = ms / 2 },
			inUse:  peerMAC, took: ms / 2,
		},
		"unheard, with a witness": {
			config: base, begin: func(s *scene) { s.peer.die(true) }, by: ProvedByWitness, took: WitnessedSilence,
		},
		"unheard, without a witness": {
			config: with(func(c *ProofConfig) { c.Witnesses = Witnesses{} }),
			begin:  func(s *scene) { s.peer.die(true) },
			by:     ProvedBySilence, took: LoneSilence,
		},
		"unheard, the gateway has never answered": {
			config: base,
			begin:  func(s *scene) { s.peer.die(true); s.gateway.die(true) },
			by:     ProvedBySilence, took: LoneSilence,
		},
		"unheard, another host is the witness": {
			config: with(func(c *ProofConfig) { c.Witnesses.Others = []Host{thirdHost} }),
			begin:  func(s *scene) { s.peer.die(true); s.gateway.die(true) },
			by:     ProvedByWitness, took: WitnessedSilence,
		},
		"unheard, the other witness is dead too": {
			config: with(func(c *ProofConfig) { c.Witnesses = Witnesses{Others: []Host{thirdHost}} }),
			begin:  func(s *scene) { s.peer.die(true); s.third.die(true) },
			by:     ProvedBySilence, took: time.Second + LoneSilence - answerWindow,
		},
		"unheard, one of two other witnesses answers": {
			config: with(func(c *ProofConfig) {
				c.Witnesses = Witnesses{Others: []Host{{Addr: otherVIP}, thirdHost}}
			}),
			begin: func(s *scene) { s.peer.die(true) },
			by:    ProvedByWitness, took: WitnessedSilence + answerWindow,
		},
		"the witness has had the address": {
			config: with(func(c *ProofConfig) { c.Owners, c.Witnesses = nil, Witnesses{Others: []Host{thirdHost}} }),
			begin:  func(s *scene) { s.third.set(vip, true); s.after(50*ms+ms/2, func() { s.third.set(vip, false) }) },
			by:     ProvedBySilence, took: 52*ms + ms/2 + LoneSilence,
		},
		"the witness is the watched host": {
			config: with(func(c *ProofConfig) {
				c.Witnesses = Witnesses{Gateway: peerHost, Others: []Host{peerHost}}
			}),
			begin: func(s *scene) { s.peer.set(peerAddr, false) },
			by:    ProvedBySilence, took: LoneSilence,
		},
		"the witness is the watched host, by its address": {
			config: with(func(c *ProofConfig) { c.Witnesses = Witnesses{Others: []Host{{Addr: peerAddr}}} }),
			begin:  func(s *scene) { s.peer.die(true) },
			by:     ProvedBySilence, took: LoneSilence,
		},
		"the host's own address is not known": {
			config: with(func(c *ProofConfig) { c.Owners = []Host{{MACs: []net.HardwareAddr{peerMAC}}} }),
			by:     ProvedByWitness, took: WitnessedSilence,
		},
		"no source": {
			config: with(func(c *ProofConfig) { c.Source = netip.Addr{} }),
			by:     ProvedBySilence, took: LoneSilence,
		},
		"somebody unknown": {
			config: with(func(c *ProofConfig) { c.Owners = []Host{{}} }),
			by:     ProvedByWitness, took: WitnessedSilence,
		},
		"no owner": {
			config: with(func(c *ProofConfig) { c.Owners = nil }),
			by:     ProvedByWitness, took: WitnessedSilence,
		},
		"an owner with our own MAC": {
			config: with(func(c *ProofConfig) { c.Owners = []Host{{Addr: source, MACs: []net.HardwareAddr{ourMAC}}} }),
			by:     ProvedByWitness, took: WitnessedSilence,
		},
		"somebody unknown has it": {
			config: with(func(c *ProofConfig) { c.Owners = []Host{{}} }),
			begin:  func(s *scene) { s.third.set(vip, true) },
			inUse:  thirdMAC, took: 1000 * ms,
		},
		"another station has it": {
			config: base,
			begin:  func(s *scene) { s.third.set(vip, true) },
			inUse:  thirdMAC, took: 1000 * ms,
		},
		"the owner answers by another of its MACs": {
			config: with(func(c *ProofConfig) {
				c.Owners = []Host{{Addr: peerAddr, MACs: []net.HardwareAddr{peerMAC, thirdMAC}}}
			}),
			begin: func(s *scene) { s.peer.from = thirdMAC },
			by:    ProvedByAnswer, took: 3 * ms,
		},
		"several owners": {
			config: with(func(c *ProofConfig) { c.Owners = []Host{peerHost, thirdHost} }),
			begin:  func(s *scene) { s.third.die(true) },
			by:     ProvedByWitness, took: WitnessedSilence,
		},
		"several owners, one has it": {
			config: with(func(c *ProofConfig) { c.Owners = []Host{peerHost, thirdHost} }),
			begin:  func(s *scene) { s.third.set(vip, true) },
			inUse:  thirdMAC, took: 1000 * ms,
		},
		"a silent stranger": {
			config: with(func(c *ProofConfig) { c.Strangers = []net.HardwareAddr{thirdMAC} }),
			by:     ProvedByAnswer, took: 20 * ms,
		},
		"only a silent stranger": {
			config: with(func(c *ProofConfig) { c.Owners, c.Strangers = nil, []net.HardwareAddr{thirdMAC} }),
			by:     ProvedBySilence, took: 20 * ms,
		},
		"a stranger that answers": {
			config: with(func(c *ProofConfig) { c.Strangers = []net.HardwareAddr{thirdMAC} }),
			begin:  func(s *scene) { s.third.set(vip, true); s.third.delay = ms / 2 },
			inUse:  thirdMAC, took: ms / 2,
		},
		"the owner starts over after others are done": {
			config: with(func(c *ProofConfig) { c.Owners = []Host{peerHost, thirdHost} }),
			begin: func(s *scene) {
				s.third.die(true)
				s.after(50*ms+ms/2, func() { s.sock.announce(vip, peerMAC) })
			},
			by: ProvedByWitness, took: WitnessedSilence,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
				s := arrange(t, w, sock)
				if tc.begin != nil {
					tc.begin(s)
				}
				start := time.Now()
				proof, err := w.Prove(t.Context(), tc.config)
				took := time.Since(start)
				if tc.inUse != nil {
					var inUse *InUseError
					require.ErrorAs(t, err, &inUse)
					require.Equal(t, InUseError{Addr: vip, MAC: tc.inUse}, *inUse)
				} else {
					require.NoError(t, err)
					assert.Equal(t, tc.by.String(), proof.By.String())
					assert.Equal(t, took, proof.Took)
					assert.Positive(t, proof.Rounds)
					assert.False(t, proof.Since.After(time.Now()))
					assert.Less(t, time.Since(proof.Since), 12*ms)
				}
				assert.InDelta(t, tc.took, took, float64(minRound), "what falls into one moment has no order")
				require.Empty(t, w.listeners.byAddr, "the subscription ends with the call")
				require.Zero(t, w.owned.Load())
			})
		})
	}
}

// sentTo returns the frames sent to a MAC, for an address.
func (f *fakeSocket) sentTo(mac net.HardwareAddr, addr netip.Addr) (sent []sentFrame) {
	for _, s := range f.frames() {
		if s.to.String() == mac.String() && s.TargetIP == addr {
			sent = append(sent, s)
		}
	}
	return sent
}

// prove proves that vip is free and requires that it succeeds.
func (s *scene) prove(t *testing.T, c ProofConfig) Proof {
	t.Helper()
	proof, err := s.wire.Prove(t.Context(), c)
	require.NoError(t, err)
	return proof
}

func peerConfig() ProofConfig {
	return ProofConfig{
		Addr: vip, Source: source, Owners: []Host{peerHost}, Witnesses: Witnesses{Gateway: gatewayHost}, Timeout: time.Second,
	}
}

func TestProveFrames(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s, start := arrange(t, w, sock), time.Now()
		w.losses = losses{} // nine rounds
		s.prove(t, peerConfig())
		require.Len(t, sock.sentTo(broadcast, vip), 3, "the first round and every fourth")
		for i, f := range sock.sentTo(broadcast, vip) {
			require.Equal(t, time.Duration(4*i)*time.Millisecond, f.at.Sub(start))
		}
		for _, f := range append(sock.sentTo(broadcast, vip), sock.sentTo(peerMAC, vip)...) {
			require.True(t, f.SenderIP.IsUnspecified(), "no cache may learn from a probe")
			require.Equal(t, unknownMAC, f.TargetHardwareAddr)
		}
		require.Len(t, sock.sentTo(peerMAC, vip), 9)
		require.Len(t, sock.sentTo(peerMAC, peerAddr), 9)
		for _, f := range sock.sentTo(peerMAC, peerAddr) {
			require.Equal(t, source, f.SenderIP, "the host could take a probe for a duplicate of its address")
		}
		frames := sock.frames()
		require.Equal(t, vip, frames[1].TargetIP, "the probe goes before the echo")
		require.Equal(t, peerAddr, frames[2].TargetIP)
		require.Zero(t, s.gateway.count(gatewayAddr), "no witness is needed")
	})
}

// While the owner has the address, it gets only probes for that.
func TestProveFramesWhileOwned(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		s.peer.set(vip, true)
		_, err := w.Prove(t.Context(), peerConfig())
		require.ErrorAs(t, err, new(*InUseError))
		require.Len(t, sock.sentTo(broadcast, vip), 1)
		require.LessOrEqual(t, len(sock.sentTo(peerMAC, peerAddr)), 1)
		require.InDelta(t, 1000, len(sock.sentTo(peerMAC, vip)), 10)
	})
}

// Switches answer broadcasts for stations that are gone (ARP suppression).
func TestProveSuppressedAnswers(t *testing.T) {
	for name, config := range map[string]ProofConfig{
		"owner":   peerConfig(),
		"unknown": {Addr: vip, Source: source, Witnesses: Witnesses{Gateway: gatewayHost}, Timeout: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
				s := arrange(t, w, sock)
				aSwitch := newStation(broadcast, vip) // it ignores unicast
				aSwitch.from = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x66}
				sock.connect(t, s.peer, s.gateway, aSwitch)
				start := time.Now()
				s.prove(t, config)
				require.GreaterOrEqual(t, time.Since(start), WitnessedSilence)
				require.Less(t, time.Since(start), 300*time.Millisecond)
				require.Len(t, sock.sentTo(aSwitch.from, vip), 8)
			})
		})
	}
}

// A lead that claims the address without being asked has it.
func TestProveLeadAnnounces(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		start := time.Now()
		s.after(time.Millisecond, func() { sock.announce(vip, thirdMAC) })
		s.after(50*time.Millisecond, func() { sock.announce(vip, thirdMAC) })
		proof := s.prove(t, peerConfig())
		require.Equal(t, ProvedByWitness, proof.By)
		require.GreaterOrEqual(t, time.Since(start), 50*time.Millisecond+WitnessedSilence)
	})
}

// Late answers are answers.
func TestProveLateAnswer(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		s.peer.die(true)
		start := time.Now()
		s.after(47*time.Millisecond, func() { sock.announce(vip, peerMAC) })
		s.prove(t, peerConfig())
		require.Greater(t, time.Since(start), 47*time.Millisecond+WitnessedSilence-answerWindow)
	})
}

func TestProveIgnoresOtherFrames(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s, start := arrange(t, w, sock), time.Now()
		s.peer.delay = time.Millisecond / 2
		s.after(time.Millisecond/4, func() {
			sock.announce(otherVIP, peerMAC)
			sock.announce(vip, ourMAC)
			sock.probe(vip, peerMAC)
			sock.in <- received{frame: Inbound{Received: start.Add(-1), Payload: arpAnnouncements(peerMAC, vip, RequestAndReply, false)[1].Payload}}
		})
		require.Equal(t, ProvedByAnswer, s.prove(t, peerConfig()).By)
		require.Less(t, time.Since(start), 5*time.Millisecond)
	})
}

// A frame of the host that is no reply to us says nothing about what it has heard.
func TestProveNeedsReplies(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		s.peer.die(true)
		ctx, cancel := context.WithCancel(t.Context())
		var others sync.WaitGroup
		defer others.Wait()
		defer cancel()
		others.Go(func() {
			for ctx.Err() == nil {
				sock.announce(peerAddr, peerMAC) // gratuitous request
				request := arpRequest(ourMAC, peerMAC, peerAddr, source)
				sock.in <- received{frame: Inbound{Received: time.Now(), Payload: request.Payload}}
				sock.in <- received{frame: Inbound{Received: time.Now(), Payload: arpAnnouncements(peerMAC, peerAddr, RequestAndReply, false)[1].Payload}}
				time.Sleep(time.Millisecond)
			}
		})
		require.Equal(t, ProvedByWitness, s.prove(t, peerConfig()).By)
	})
}

func TestProveEnds(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		_, err := w.Prove(t.Context(), ProofConfig{Addr: netip.MustParseAddr("fd00::64")})
		require.ErrorIs(t, err, ErrUnsupportedFamily)

		for name, begin := range map[string]func(){
			"owned":   func() { s.peer.set(vip, true) },
			"unheard": func() { s.peer.die(true) },
		} {
			begin()
			cause := errors.New("released") // another frame has told it
			ctx, cancel := context.WithCancelCause(t.Context())
			s.after(25*time.Millisecond, func() { cancel(cause) })
			start := time.Now()
			_, err = w.Prove(ctx, peerConfig())
			require.ErrorIs(t, err, cause, name)
			require.Equal(t, 25*time.Millisecond, time.Since(start))
			sent := len(sock.frames())
			time.Sleep(time.Minute)
			require.Len(t, sock.frames(), sent, "no frame is sent later")
		}
		s.after(25*time.Millisecond, func() { w.pacer.close() })
		_, err = w.Prove(t.Context(), peerConfig())
		require.ErrorIs(t, err, ErrClosed)
	})
}

func TestProveBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sock := newFakeSocket()
		w := New(sock, ourMAC, IPv4, Options{})
		arrange(t, w, sock)
		start := time.Now()
		proved := make(chan error)
		go func() {
			_, err := w.Prove(t.Context(), peerConfig())
			proved <- err
		}()
		time.Sleep(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- w.Run(ctx) }()
		require.NoError(t, <-proved)
		require.Less(t, time.Since(start), time.Minute+10*time.Millisecond)
		cancel()
		require.NoError(t, <-ran)
	})
}
