package config

import "github.com/hashicorp/hcl/v2"

// These types define the language: which keys and blocks are allowed where. Decoding
// into them finds unknown and repeated keys. The checker does the rest.
//
// Each key can also be set by an environment variable, except those with the tag env:"-":
// lists, blocks with a name, and what another variable sets already.
type (
	rawConfig struct {
		LogLevel  *hcl.Attribute `hcl:"log_level"`
		LogJSON   *hcl.Attribute `hcl:"log_json"`
		NodeName  *hcl.Attribute `hcl:"node_name"`
		Socket    *hcl.Attribute `hcl:"socket"`
		Consul    []rawConsul    `hcl:"consul,block"`
		HostCheck []rawHostCheck `hcl:"host_check,block"`
		Checks    []rawCheck     `hcl:"check,block" env:"-"`
		Hooks     []rawHook      `hcl:"hook,block" env:"-"`
		VIPs      []rawVIP       `hcl:"vip,block"`
	}

	rawConsul struct {
		Address    *hcl.Attribute `hcl:"address"`
		TokenFile  *hcl.Attribute `hcl:"token_file"`
		Prefix     *hcl.Attribute `hcl:"prefix"`
		Service    *hcl.Attribute `hcl:"service"`
		SessionTTL *hcl.Attribute `hcl:"session_ttl"`
		CheckTTL   *hcl.Attribute `hcl:"check_ttl"`
		Range      hcl.Range      `hcl:",def_range"`
	}

	rawVIP struct {
		Address      string         `hcl:"address,label"`
		Bind         *hcl.Attribute `hcl:"bind"`
		Interface    *hcl.Attribute `hcl:"interface"`
		Priority     *hcl.Attribute `hcl:"priority"`
		OnConflict   *hcl.Attribute `hcl:"on_conflict"`
		OnLoss       *hcl.Attribute `hcl:"on_loss"`
		Takeover     *hcl.Attribute `hcl:"takeover"`
		Preempt      *hcl.Attribute `hcl:"preempt"`
		PreemptDelay *hcl.Attribute `hcl:"preempt_delay"`
		DeadMan      *hcl.Attribute `hcl:"dead_man"`
		Require      *hcl.Attribute `hcl:"require" env:"-"`
		WhenNoneFit  *hcl.Attribute `hcl:"when_none_fit"`
		Announce     []rawAnnounce  `hcl:"announce,block"`
		HostCheck    []rawHostCheck `hcl:"host_check,block" env:"-"` // the top level's applies to all
		AddressRange hcl.Range      `hcl:"address,label_range"`
	}

	rawCheck struct {
		Name          string         `hcl:"name,label"`
		HTTP          *hcl.Attribute `hcl:"http"`
		Header        *hcl.Attribute `hcl:"header"`
		TLSSkipVerify *hcl.Attribute `hcl:"tls_skip_verify"`
		Expect        *hcl.Attribute `hcl:"expect"`
		TCP           *hcl.Attribute `hcl:"tcp"`
		Command       *hcl.Attribute `hcl:"command"`
		Service       *hcl.Attribute `hcl:"service"`
		Interval      *hcl.Attribute `hcl:"interval"`
		Timeout       *hcl.Attribute `hcl:"timeout"`
		Rise          *hcl.Attribute `hcl:"rise"`
		Fall          *hcl.Attribute `hcl:"fall"`
		NameRange     hcl.Range      `hcl:"name,label_range"`
	}

	rawHook struct {
		Name      string         `hcl:"name,label"`
		On        *hcl.Attribute `hcl:"on"`
		Command   *hcl.Attribute `hcl:"command"`
		Timeout   *hcl.Attribute `hcl:"timeout"`
		VIPs      *hcl.Attribute `hcl:"vips"`
		NameRange hcl.Range      `hcl:"name,label_range"`
	}

	rawAnnounce struct {
		Interval *hcl.Attribute `hcl:"interval"`
		Jitter   *hcl.Attribute `hcl:"jitter"`
		Range    hcl.Range      `hcl:",def_range"`
	}

	rawHostCheck struct {
		Interval *hcl.Attribute `hcl:"interval"`
		Misses   *hcl.Attribute `hcl:"misses"`
		Range    hcl.Range      `hcl:",def_range"`
	}
)

func (r rawConsul) at() hcl.Range    { return r.Range }
func (r rawAnnounce) at() hcl.Range  { return r.Range }
func (r rawHostCheck) at() hcl.Range { return r.Range }
