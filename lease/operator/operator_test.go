package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

var errTime = errors.New("time is up")

const (
	vip     = "10.77.0.100"
	lockKey = "p/10.77.0.100/.lock"
)

// cluster is a Consul without instances but for those that a test makes up.
type cluster struct{ *simconsul.Consul }

// operated runs test with an Operator on such a Consul, in a synctest bubble. ctx
// ends after a minute.
func operated(t *testing.T, test func(ctx context.Context, o *Operator, f cluster)) {
	synctest.Test(t, func(t *testing.T) {
		f := cluster{simconsul.New(t)}
		client, closeClient := f.Client(consul.Transport)
		defer closeClient()
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Minute, errTime)
		defer cancel()
		test(ctx, New(consul.New(client, nil), "/p/"), f)
	})
}

// join makes an instance a member that contends for the address.
func (f cluster) join(node string) {
	f.Begin("of-"+node, "consul-vip")
	f.Put("p/.members/"+node, fmt.Sprintf(`{"node":%q,"vips":{%q:100}}`, node, vip), "of-"+node)
}

// hold makes that instance the owner, with the record that it would write itself.
func (f cluster) hold(node string) {
	f.Put(lockKey, fmt.Sprintf(`{"state":"held","node":%q,"session":"of-%s"}`, node, node), "of-"+node)
}

// after lets something happen at a later time.
func after(d time.Duration, happens func()) { time.AfterFunc(d, happens) }

func TestOperatorRefuses(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		_, err := o.Move(ctx, vip, "h2")
		require.ErrorContains(t, err, "no address "+vip+" below p/, and no other address either")
		f.join("h1")
		f.join("h2")
		f.hold("h1")
		f.Put("p/.drain/h2", "", "")
		f.Put("p/10.77.0.102/.lock", "", "foreign")
		for want, try := range map[string]func() (Outcome, error){
			"no address 10.77.0.101 below p/; known addresses: 10.77.0.100, 10.77.0.102":   func() (Outcome, error) { return o.Move(ctx, "10.77.0.101", "h2") },
			"h1 already holds 10.77.0.100; members: h1 (owner), h2 (drained)":              func() (Outcome, error) { return o.Move(ctx, vip, "h1") },
			"h2 is drained and cannot take 10.77.0.100; members: h1 (owner), h2 (drained)": func() (Outcome, error) { return o.Move(ctx, vip, "h2") },
			"h3 does not contend for 10.77.0.100; members":                                 func() (Outcome, error) { return o.Move(ctx, vip, "h3") },
			"no node to move 10.77.0.100 to; members: h1 (owner), h2 (drained)":            func() (Outcome, error) { return o.Move(ctx, vip, "") },
			"no instance holds 10.77.0.102: another program holds its lock":                func() (Outcome, error) { return o.Release(ctx, "10.77.0.102") },
			"no address 10.77.0.103": func() (Outcome, error) { return o.Withhold(ctx, "10.77.0.103") },
			"no address 10.77.0.104": func() (Outcome, error) { _, out, err := o.Unpin(ctx, "10.77.0.104"); return out, err },
		} {
			_, err := try()
			require.ErrorContains(t, err, want)
			require.NotErrorIs(t, err, ErrPending)
		}
		assert.Zero(t, f.Count("PUT /v1/txn"), "nothing is written")
	})
}

func TestMoveThatDoesNotHappen(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		f.join("h1")
		f.join("h2")
		f.hold("h1")
		after(time.Second, func() { f.Delete("p/.members/h2") })
		_, err := o.Move(ctx, vip, "h2")
		require.ErrorIs(t, err, ErrPending)
		require.ErrorIs(t, err, errTime)
		require.ErrorContains(t, err, "h1 holds it (pinned to h2, which is not a member)")
		assert.Equal(t, "h2", string(f.Get("p/"+vip+"/pin").Value), "the pin stays")
	})
}

func TestOperatorUnpins(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		f.join("h1")
		pin, out, err := o.Unpin(ctx, vip)
		require.NoError(t, err)
		assert.Empty(t, pin)
		assert.Equal(t, state.StatusFree, out.State)

		f.Put("p/"+vip+"/pin", "-", "")
		after(time.Second, func() { f.hold("h1") })
		pin, out, err = o.Unpin(ctx, vip)
		require.NoError(t, err)
		assert.Equal(t, "-", pin)
		assert.Equal(t, Outcome{VIP: vip, State: state.StatusHeld, Node: "h1", Took: time.Second}, out)
		assert.Nil(t, f.Get("p/"+vip+"/pin"))
	})
}

// TestReleaseIsWithdrawn asks an owner that does not answer.
func TestReleaseIsWithdrawn(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		f.join("h1")
		f.hold("h1")
		_, err := o.Release(ctx, vip)
		require.ErrorIs(t, err, ErrPending)
		require.ErrorContains(t, err, "h1 holds it (release requested from h1)")
		assert.Nil(t, f.Get("p/"+vip+"/release"))
	})
}

func TestOperatorReleases(t *testing.T) {
	tests := map[string]struct {
		others bool
		then   func(f cluster)
		want   Outcome
	}{
		"to another": {true, func(f cluster) {
			f.Put(lockKey, `{"state":"handover","from":"h1","node":"h2","session":"of-h2"}`, "of-h2")
			after(time.Second, func() { f.hold("h2") })
		}, Outcome{State: state.StatusHeld, Node: "h2", Took: 2 * time.Second}},
		"to nobody": {false, func(f cluster) {
			f.Destroy("of-h1")
		}, Outcome{State: state.StatusFree, Took: time.Second}},
		"to nobody first, then to another": {true, func(f cluster) {
			f.Destroy("of-h1")
			after(time.Second, func() { f.hold("h2") })
		}, Outcome{State: state.StatusHeld, Node: "h2", Took: 2 * time.Second}},
		"to another program": {true, func(f cluster) {
			f.Destroy("of-h1")
			f.Put(lockKey, "", "foreign")
		}, Outcome{State: state.StatusForeign, Took: time.Second}},
	}
	for name, tt := range tests {
		for _, accepted := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, accepted %t", name, accepted), func(t *testing.T) {
				operated(t, func(ctx context.Context, o *Operator, f cluster) {
					f.join("h1")
					if tt.others {
						f.join("h2")
					}
					f.hold("h1")
					after(time.Second, func() {
						if accepted {
							f.Delete("p/" + vip + "/release")
						}
						tt.then(f)
					})
					out, err := o.Release(ctx, vip)
					require.NoError(t, err)
					tt.want.VIP, tt.want.From = vip, "h1"
					assert.Equal(t, tt.want, out)
					assert.Nil(t, f.Get("p/"+vip+"/release"), "nothing is left behind")
				})
			})
		}
	}
}

func TestOperatorWithholds(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		f.join("h1")
		f.join("h2")
		f.hold("h1")
		after(time.Second, func() { f.Destroy("of-h1") })
		out, err := o.Withhold(ctx, vip)
		require.NoError(t, err)
		assert.Equal(t, Outcome{VIP: vip, From: "h1", State: state.StatusFree, Took: time.Second}, out)
		assert.Equal(t, "-", string(f.Get("p/"+vip+"/pin").Value))
	})
}

func TestOperatorDrains(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		f.join("h1")
		f.join("h2")
		f.hold("h1")
		f.Put("p/10.77.0.101/.lock", `{"state":"held","node":"h1","session":"of-h1"}`, "of-h1")
		f.Put("p/10.77.0.102/.lock", `{"state":"held","node":"h2","session":"of-h2"}`, "of-h2")
		after(time.Second, func() { f.hold("h2") })
		d, err := o.Drain(ctx, "h1")
		require.NoError(t, err)
		assert.Equal(t, Drained{
			Member: true,
			Others: []string{"h2"},
			Moved:  []Outcome{{VIP: vip, From: "h1", State: state.StatusHeld, Node: "h2", Took: time.Second}},
			Kept:   []Kept{{"10.77.0.101", "no other member contends for it"}},
		}, d)
		assert.Contains(t, string(f.Get("p/.drain/h1").Value), `{"at":"`)

		was, err := o.Undrain(ctx, "h1")
		require.NoError(t, err)
		assert.True(t, was)
		assert.Nil(t, f.Get("p/.drain/h1"))
		was, err = o.Undrain(ctx, "h1")
		require.NoError(t, err)
		assert.False(t, was)
	})
}

func TestDrainOfANodeThatIsNoMember(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		f.join("h1")
		d, err := o.Drain(ctx, "h9")
		require.NoError(t, err)
		assert.Equal(t, Drained{Others: []string{"h1"}}, d)
		assert.NotNil(t, f.Get("p/.drain/h9"))
	})
}

func TestDrainThatIsIgnored(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		f.join("h1")
		f.join("h2")
		f.hold("h1")
		_, err := o.Drain(ctx, "h1")
		require.ErrorIs(t, err, ErrPending)
		require.ErrorIs(t, err, errTime)
		require.ErrorContains(t, err, vip+": h1 holds it (h1 is drained)")
		assert.NotNil(t, f.Get("p/.drain/h1"), "it stays drained")
	})
}

// filtered leaves out of every list the keys that begin so.
func (f cluster) filtered(hidden ...string) {
	f.On(func(w http.ResponseWriter, r *http.Request) bool {
		if !r.URL.Query().Has("recurse") {
			return false
		}
		if r.URL.Query().Has("index") {
			time.Sleep(time.Second)
		}
		var pairs []*api.KVPair
		for _, key := range []string{lockKey, "p/" + vip + "/pin", "p/" + vip + "/release", "p/.members/h1", "p/.members/h2", "p/.drain/h1"} {
			if p := f.Get(key); p != nil && !slices.ContainsFunc(hidden, func(h string) bool { return strings.HasPrefix(key, h) }) {
				pairs = append(pairs, p)
			}
		}
		w.Header().Set("X-Consul-Index", "99")
		w.Header().Set("X-Consul-LastContact", "0")
		w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
		_ = json.NewEncoder(w).Encode(pairs)
		return true
	})
}

// A key that is missing from a list that ACLs filtered may be there.
func TestOperatorOfAnIncompleteList(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		f.join("h1")
		f.join("h2")
		f.hold("h1")
		f.Put("p/"+vip+"/pin", "h1", "")
		f.Put("p/.drain/h1", "", "")

		f.filtered(lockKey, "p/.drain/", "p/"+vip+"/pin")
		rows, err := o.List(ctx)
		require.NoError(t, err)
		assert.Equal(t, state.StatusUnknown, rows[0].State)
		assert.Equal(t, state.ErrIncomplete.Error(), rows[0].Note)
		_, _, err = o.Unpin(ctx, vip)
		require.ErrorIs(t, err, state.ErrIncomplete)
		_, err = o.Undrain(ctx, "h1")
		require.ErrorIs(t, err, state.ErrIncomplete)
		_, err = o.Release(ctx, vip)
		require.ErrorContains(t, err, "its lock cannot be read")
		assert.Zero(t, f.Count("PUT /v1/txn"), "nothing is written")

		f.filtered("p/.members/h2", "p/10.77.0.200/")
		_, err = o.Move(ctx, vip, "h2")
		require.ErrorContains(t, err, "h2 does not contend for "+vip+"; members: h1 (drained); the list is incomplete")
		_, err = o.Move(ctx, "10.77.0.200", "h2")
		require.ErrorIs(t, err, state.ErrIncomplete)
	})
}

func TestWithholdDoesNotTakeAHiddenLockForAFreeOne(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		f.join("h1")
		f.hold("h1")
		f.filtered(lockKey)
		_, err := o.Withhold(ctx, vip)
		require.ErrorIs(t, err, ErrPending)
		require.ErrorContains(t, err, state.ErrIncomplete.Error())
	})
}

func TestReleaseWithdrawsARequestThatIsHidden(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		f.join("h1")
		f.hold("h1")
		f.filtered("p/" + vip + "/release")
		_, err := o.Release(ctx, vip)
		require.ErrorIs(t, err, ErrPending)
		assert.Nil(t, f.Get("p/"+vip+"/release"), "left there it would speak to the next instance of this name")
	})
}

func TestDrainOfAnIncompleteListWaits(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		f.join("h1")
		f.join("h2")
		f.hold("h1")
		f.filtered("p/.members/h2")
		after(10*time.Second, func() { f.hold("h2") })
		d, err := o.Drain(ctx, "h1")
		require.NoError(t, err)
		assert.True(t, d.Filtered)
		require.Len(t, d.Moved, 1)
		assert.Equal(t, "h2", d.Moved[0].Node)
	})
}

func TestFollow(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		f.join("h1")
		after(10*time.Second, func() { f.hold("h1") })
		after(20*time.Second, func() { f.Put("elsewhere", "", "") })
		after(30*time.Second, func() { f.On(simconsul.Only("/v1/kv", simconsul.Answer(500, "text/plain", "no leader"))) })
		after(40*time.Second, func() { f.On(nil) })
		after(50*time.Second, func() { f.Destroy("of-h1") })
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
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		f.join("h1")
		f.Put("p/.drain/h1", "", "")
		for want, value := range map[string]string{
			"transfer from h2 in progress; h1 is drained": `{"state":"handover","from":"h2","node":"h1","mac":"02:00:00:00:00:02","session":"of-h1"}`,
			"h1 is drained": `{"state":"held","node":"h1","session":"of-h1"}`,
		} {
			f.Put(lockKey, value, "of-h1")
			rows, err := o.List(ctx)
			require.NoError(t, err)
			assert.Equal(t, want, rows[0].Note)
			assert.Equal(t, state.StatusHeld, rows[0].State)
			assert.Equal(t, "h1", rows[0].Node)
			assert.Empty(t, rows[0].Owner, "the record still describes h2")
		}
	})
}

// TestOperatorWithoutPermissions wants the missing permission named, not just Consul's
// refusal.
func TestOperatorWithoutPermissions(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		f.join("h1")
		f.join("h2")
		f.hold("h1")
		denied := simconsul.Only(simconsul.AuthorizePath, simconsul.Answer(200, "application/json", `[{"Allow":false}]`))
		refused := simconsul.Only("/v1/txn", simconsul.Answer(409, "application/json", `{"Errors":[{"OpIndex":0,"What":"Permission denied"}]}`))
		f.On(func(w http.ResponseWriter, r *http.Request) bool { return denied(w, r) || refused(w, r) })
		_, err := o.Move(ctx, vip, "h2")
		require.ErrorContains(t, err, `missing ACL permission: key_prefix "p/10.77.0.100/pin" { policy = "write" }`)
		require.NotErrorIs(t, err, ErrPending)

		hidden := simconsul.Only("/v1/kv", simconsul.Filtered)
		f.On(func(w http.ResponseWriter, r *http.Request) bool { return denied(w, r) || hidden(w, r) })
		_, err = o.List(ctx)
		require.ErrorContains(t, err, `missing ACL permission: key_prefix "p/" { policy = "read" }`)
	})
}

// Consul answers a request without a token with an empty list.
func TestEmptyListWithoutPermission(t *testing.T) {
	operated(t, func(ctx context.Context, o *Operator, f cluster) {
		_, err := o.List(ctx)
		require.NoError(t, err, "there are no keys")
		f.On(simconsul.Denying("key"))
		_, err = o.List(ctx)
		require.ErrorContains(t, err, `key_prefix "p/" { policy = "read" }`)
		f.On(simconsul.Answer(403, "text/plain", "ACL not found"))
		_, err = o.List(ctx)
		require.ErrorIs(t, err, consul.ErrUnknownToken)
	})
}

// Scripts read this JSON: names, values and the order of the fields stay as they are.
func TestStatusAsJSON(t *testing.T) {
	since := time.Date(2026, 11, 22, 5, 11, 37, 0, time.UTC)
	for want, s := range map[string]Status{
		`{"vip":"b","state":"free","members":[{"node":"h1","priority":100,"drained":false,"session":"s1","ranks_last":true}]}`: {
			VIP: "b", State: state.StatusFree, Members: []MemberStatus{{Node: "h1", Priority: 100, Session: "s1", RanksLast: true}},
		},
		`{"vip":"a","state":"free","members":[]}`: {VIP: "a", State: state.StatusFree, Members: []MemberStatus{}},
		`{"vip":"a","state":"held","node":"h1","interface":"eth0","mac":"02:00:00:00:00:01","since":"2026-11-22T05:11:37Z","session":"s1",` +
			`"members":[{"node":"h1","priority":100,"drained":false,"session":"s1"}],"pin":"h1","note":"pinned to h1"}`: {
			VIP: "a", State: state.StatusHeld, Node: "h1", Owner: `{"interface":"eth0","mac":"02:00:00:00:00:01"}`, Since: &since, Session: "s1",
			Members: []MemberStatus{{Node: "h1", Priority: 100, Session: "s1"}}, Pin: "h1", Note: "pinned to h1",
		},
	} {
		got, err := json.Marshal(s)
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
}
