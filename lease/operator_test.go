package lease

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var errTime = errors.New("time is up")

// operated runs test with an Operator on a Consul that has no instances but
// those that the test makes up, in a synctest bubble. ctx ends after a minute.
func operated(t *testing.T, test func(ctx context.Context, o *Operator, f *fakeConsul)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeConsul(t)
		client, closeClient := f.client()
		defer closeClient()
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Minute, errTime)
		defer cancel()
		test(ctx, NewOperator(client, "/p/"), f)
	})
}

// stands puts an instance into Consul that contends for the address.
func (f *fakeConsul) stands(node string) {
	f.mu.Lock()
	f.sessions["of-"+node] = true
	f.mu.Unlock()
	f.put("p/.members/"+node, fmt.Sprintf(`{"node":%q,"vips":{%q:100}}`, node, vip), "of-"+node)
}

// has makes that instance the owner, as it would say itself.
func (f *fakeConsul) has(node string) {
	f.put(lockKey, fmt.Sprintf(`{"state":"held","node":%q,"session":"of-%s"}`, node, node), "of-"+node)
}

// after has something happen at a later time.
func after(d time.Duration, happens func()) { time.AfterFunc(d, happens) }

func TestOperatorRefuses(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f *fakeConsul) {
		_, err := o.Move(ctx, vip, "h2")
		require.ErrorContains(t, err, "there is no address "+vip+" below p/, nor any other")
		f.stands("h1")
		f.stands("h2")
		f.has("h1")
		f.put("p/.drain/h2", "", "")
		f.put("p/10.77.0.102/.lock", "", "foreign")
		for want, try := range map[string]func() (Outcome, error){
			"there is no address 10.77.0.101 below p/; there are: 10.77.0.100, 10.77.0.102": func() (Outcome, error) { return o.Move(ctx, "10.77.0.101", "h2") },
			"h1 has 10.77.0.100 already; there are: h1 (has it), h2 (drained)":              func() (Outcome, error) { return o.Move(ctx, vip, "h1") },
			"h2 is drained; for 10.77.0.100 there are: h1 (has it), h2 (drained)":           func() (Outcome, error) { return o.Move(ctx, vip, "h2") },
			"h3 does not contend for 10.77.0.100; there are":                                func() (Outcome, error) { return o.Move(ctx, vip, "h3") },
			"nobody is there to move 10.77.0.100 to; there are: h1 (has it), h2 (drained)":  func() (Outcome, error) { return o.Move(ctx, vip, "") },
			"no instance has 10.77.0.102 to release it: another program has its lock":       func() (Outcome, error) { return o.Release(ctx, "10.77.0.102") },
			"there is no address 10.77.0.103":                                               func() (Outcome, error) { return o.Withhold(ctx, "10.77.0.103") },
			"there is no address 10.77.0.104":                                               func() (Outcome, error) { _, out, err := o.Unpin(ctx, "10.77.0.104"); return out, err },
		} {
			_, err := try()
			require.ErrorContains(t, err, want)
			require.NotErrorIs(t, err, ErrPending)
		}
		assert.Zero(t, f.count("PUT /v1/txn"), "nothing is written")
	})
}

func TestOperatorMoves(t *testing.T) {
	pair(t, ours, func(b, _ *bench, h, next *hold, _ *Held) {
		client, closeIdle := b.consul.newClient()
		defer closeIdle()
		out, err := NewOperator(client, "p").Move(context.Background(), vip, "")
		require.NoError(t, err)
		assert.Equal(t, Outcome{VIP: vip, From: "h1", State: StatusHeld, Node: "h2"}, out, "the bubble's time stands still meanwhile")
		assert.Equal(t, "h2", string(b.consul.get("p/"+vip+"/pin").Value))
		require.ErrorIs(t, <-h.result, ErrHandedOver)
		<-next.held
	})
}

func TestMoveThatDoesNotComeTrue(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f *fakeConsul) {
		f.stands("h1")
		f.stands("h2")
		f.has("h1")
		after(time.Second, func() { f.delete("p/.members/h2") })
		_, err := o.Move(ctx, vip, "h2")
		require.ErrorIs(t, err, ErrPending)
		require.ErrorIs(t, err, errTime)
		require.ErrorContains(t, err, "h1 has it (pinned to h2, which is not there)")
		assert.Equal(t, "h2", string(f.get("p/"+vip+"/pin").Value), "the pin stays")
	})
}

func TestOperatorUnpins(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f *fakeConsul) {
		f.stands("h1")
		pin, out, err := o.Unpin(ctx, vip)
		require.NoError(t, err)
		assert.Empty(t, pin)
		assert.Equal(t, StatusFree, out.State)

		f.put("p/"+vip+"/pin", "-", "")
		after(time.Second, func() { f.has("h1") })
		pin, out, err = o.Unpin(ctx, vip)
		require.NoError(t, err)
		assert.Equal(t, "-", pin)
		assert.Equal(t, Outcome{VIP: vip, State: StatusHeld, Node: "h1", Took: time.Second}, out)
		assert.Nil(t, f.get("p/"+vip+"/pin"))
	})
}

// TestReleaseIsTakenBack asks an owner that does not answer.
func TestReleaseIsTakenBack(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f *fakeConsul) {
		f.stands("h1")
		f.has("h1")
		_, err := o.Release(ctx, vip)
		require.ErrorIs(t, err, ErrPending)
		require.ErrorContains(t, err, "h1 has it (h1 is asked to release it)")
		assert.Nil(t, f.get("p/"+vip+"/release"))
	})
}

func TestOperatorReleases(t *testing.T) {
	tests := map[string]struct {
		others bool
		then   func(f *fakeConsul)
		want   Outcome
	}{
		"to another": {true, func(f *fakeConsul) {
			f.put(lockKey, `{"state":"handover","from":"h1","node":"h2","session":"of-h2"}`, "of-h2")
			after(time.Second, func() { f.has("h2") })
		}, Outcome{State: StatusHeld, Node: "h2", Took: 2 * time.Second}},
		"to nobody": {false, func(f *fakeConsul) {
			f.destroy("of-h1")
		}, Outcome{State: StatusFree, Took: time.Second}},
		"to nobody first, then to another": {true, func(f *fakeConsul) {
			f.destroy("of-h1")
			after(time.Second, func() { f.has("h2") })
		}, Outcome{State: StatusHeld, Node: "h2", Took: 2 * time.Second}},
		"to another program": {true, func(f *fakeConsul) {
			f.destroy("of-h1")
			f.put(lockKey, "", "foreign")
		}, Outcome{State: StatusForeign, Took: time.Second}},
	}
	for name, tt := range tests {
		for _, heeded := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, heeded %t", name, heeded), func(t *testing.T) {
				operated(t, func(ctx context.Context, o *Operator, f *fakeConsul) {
					f.stands("h1")
					if tt.others {
						f.stands("h2")
					}
					f.has("h1")
					after(time.Second, func() {
						if heeded {
							f.delete("p/" + vip + "/release")
						}
						tt.then(f)
					})
					out, err := o.Release(ctx, vip)
					require.NoError(t, err)
					tt.want.VIP, tt.want.From = vip, "h1"
					assert.Equal(t, tt.want, out)
					assert.Nil(t, f.get("p/"+vip+"/release"), "nothing is left behind")
				})
			})
		}
	}
}

func TestOperatorWithholds(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f *fakeConsul) {
		f.stands("h1")
		f.stands("h2")
		f.has("h1")
		after(time.Second, func() { f.destroy("of-h1") })
		out, err := o.Withhold(ctx, vip)
		require.NoError(t, err)
		assert.Equal(t, Outcome{VIP: vip, From: "h1", State: StatusFree, Took: time.Second}, out)
		assert.Equal(t, "-", string(f.get("p/"+vip+"/pin").Value))
	})
}

func TestOperatorDrains(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f *fakeConsul) {
		f.stands("h1")
		f.stands("h2")
		f.has("h1")
		f.put("p/10.77.0.101/.lock", `{"state":"held","node":"h1","session":"of-h1"}`, "of-h1")
		f.put("p/10.77.0.102/.lock", `{"state":"held","node":"h2","session":"of-h2"}`, "of-h2")
		after(time.Second, func() { f.has("h2") })
		d, err := o.Drain(ctx, "h1")
		require.NoError(t, err)
		assert.Equal(t, Drained{
			Member: true,
			Others: []string{"h2"},
			Moved:  []Outcome{{VIP: vip, From: "h1", State: StatusHeld, Node: "h2", Took: time.Second}},
			Kept:   []Kept{{"10.77.0.101", "nobody else is there for it"}},
		}, d)
		assert.Contains(t, string(f.get("p/.drain/h1").Value), `{"at":"`)

		was, err := o.Undrain(ctx, "h1")
		require.NoError(t, err)
		assert.True(t, was)
		assert.Nil(t, f.get("p/.drain/h1"))
		was, err = o.Undrain(ctx, "h1")
		require.NoError(t, err)
		assert.False(t, was)
	})
}

func TestDrainOfNobody(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f *fakeConsul) {
		f.stands("h1")
		d, err := o.Drain(ctx, "h9")
		require.NoError(t, err)
		assert.Equal(t, Drained{Others: []string{"h1"}}, d)
		assert.NotNil(t, f.get("p/.drain/h9"))
	})
}

func TestDrainThatIsNotHeeded(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f *fakeConsul) {
		f.stands("h1")
		f.stands("h2")
		f.has("h1")
		_, err := o.Drain(ctx, "h1")
		require.ErrorIs(t, err, ErrPending)
		require.ErrorIs(t, err, errTime)
		require.ErrorContains(t, err, vip+": h1 has it (h1 is drained)")
		assert.NotNil(t, f.get("p/.drain/h1"), "it stays drained")
	})
}

func TestFollow(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f *fakeConsul) {
		f.stands("h1")
		after(10*time.Second, func() { f.has("h1") })
		after(20*time.Second, func() { f.put("elsewhere", "", "") })
		after(30*time.Second, func() { f.on(only("/v1/kv", status(500, "text/plain", "no leader"))) })
		after(40*time.Second, func() { f.on(nil) })
		after(50*time.Second, func() { f.destroy("of-h1") })
		var seen []string
		for rows, err := range o.Follow(ctx) {
			what := "error"
			if err == nil {
				require.Len(t, rows, 1)
				what = rows[0].State
			}
			if len(seen) == 0 || what != "error" || seen[len(seen)-1] != "error" {
				seen = append(seen, what)
			}
		}
		assert.Equal(t, []string{"free", "held", "error", "held", "free"}, seen)
	})
}

func TestNotes(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f *fakeConsul) {
		f.stands("h1")
		f.put("p/.drain/h1", "", "")
		for want, value := range map[string]string{
			"being handed over by h2; h1 is drained": `{"state":"handover","from":"h2","node":"h1","mac":"02:00:00:00:00:02","session":"of-h1"}`,
			"h1 is drained":                          `{"state":"held","node":"h1","session":"of-h1"}`,
		} {
			f.put(lockKey, value, "of-h1")
			rows, err := o.List(ctx)
			require.NoError(t, err)
			assert.Equal(t, want, rows[0].Note)
			assert.Equal(t, StatusHeld, rows[0].State)
			assert.Equal(t, "h1", rows[0].Node)
			assert.Empty(t, rows[0].MAC, "it is not that of h1")
		}
	})
}

// TestOperatorWithoutRights is told which right is missing, not just that Consul
// has refused.
func TestOperatorWithoutRights(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f *fakeConsul) {
		f.stands("h1")
		f.stands("h2")
		f.has("h1")
		denied := only(authorizePath, status(200, "application/json", `[{"Allow":false}]`))
		refused := only("/v1/txn", status(409, "application/json", `{"Errors":[{"OpIndex":0,"What":"Permission denied"}]}`))
		f.on(func(w http.ResponseWriter, r *http.Request) bool { return denied(w, r) || refused(w, r) })
		_, err := o.Move(ctx, vip, "h2")
		require.ErrorContains(t, err, `missing ACL right: key_prefix "p/10.77.0.100/pin" { policy = "write" }`)
		require.NotErrorIs(t, err, ErrPending)

		hidden := only("/v1/kv", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("X-Consul-Index", "9")
			w.Header().Set("X-Consul-LastContact", "0")
			w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
			w.WriteHeader(http.StatusNotFound)
			return true
		})
		f.on(func(w http.ResponseWriter, r *http.Request) bool { return denied(w, r) || hidden(w, r) })
		_, err = o.List(ctx)
		require.ErrorContains(t, err, `missing ACL right: key_prefix "p/" { policy = "read" }`)
	})
}
