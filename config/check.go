package config

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// The raw types are the language: what may be written where. Unknown and
// repeated keys are found by decoding into them, everything else by check.
type (
	rawConfig struct {
		LogLevel *hcl.Attribute `hcl:"log_level"`
		LogJSON  *hcl.Attribute `hcl:"log_json"`
		NodeName *hcl.Attribute `hcl:"node_name"`
		Consul   []rawConsul    `hcl:"consul,block"`
		VIPs     []rawVIP       `hcl:"vip,block"`
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
		Interface    *hcl.Attribute `hcl:"interface"`
		Priority     *hcl.Attribute `hcl:"priority"`
		OnConflict   *hcl.Attribute `hcl:"on_conflict"`
		OnLoss       *hcl.Attribute `hcl:"on_loss"`
		Takeover     *hcl.Attribute `hcl:"takeover"`
		Preempt      *hcl.Attribute `hcl:"preempt"`
		PreemptDelay *hcl.Attribute `hcl:"preempt_delay"`
		DeadMan      *hcl.Attribute `hcl:"dead_man"`
		Announce     []rawAnnounce  `hcl:"announce,block"`
		// AddressRange is the label's.
		AddressRange hcl.Range `hcl:"address,label_range"`
	}

	rawAnnounce struct {
		Interval *hcl.Attribute `hcl:"interval"`
		Jitter   *hcl.Attribute `hcl:"jitter"`
		Range    hcl.Range      `hcl:",def_range"`
	}
)

// checker turns raw values into checked ones and collects what is wrong.
type checker struct {
	whole bool // every file was read and parsed
	diags hcl.Diagnostics
}

func (c *checker) config(body hcl.Body) *Config {
	var raw rawConfig
	c.diags = gohcl.DecodeBody(body, evaluation, &raw)
	if len(raw.VIPs) == 0 && c.whole && !c.diags.HasErrors() { // else there may be one that was not understood
		c.report("Missing vip block", body.MissingItemRange(),
			`There is no address to look after. Add one, for example: vip "10.77.0.100" {}`)
	}
	cfg := &Config{
		LogLevel: value(c, raw.LogLevel, DefaultLogLevel, logLevel),
		LogJSON:  value(c, raw.LogJSON, false, anything[bool]),
		NodeName: value(c, raw.NodeName, "", nodeName),
		Consul:   one(c, "consul", raw.Consul, rawConsul.at, c.consul),
	}
	for _, vip := range raw.VIPs {
		cfg.VIPs = append(cfg.VIPs, c.vip(vip, cfg.Consul))
	}
	c.distinct(raw.VIPs, cfg.VIPs)
	return cfg
}

func (c *checker) consul(raw rawConsul) Consul {
	return Consul{
		Address:    value(c, raw.Address, "", agentAddress),
		TokenFile:  value(c, raw.TokenFile, "", filename),
		Prefix:     value(c, raw.Prefix, DefaultPrefix, keyPrefix),
		Service:    value(c, raw.Service, DefaultService, serviceName),
		SessionTTL: value(c, raw.SessionTTL, DefaultSessionTTL, sessionTTL),
		CheckTTL:   value(c, raw.CheckTTL, DefaultCheckTTL, checkTTL),
	}
}

func (c *checker) vip(raw rawVIP, consul Consul) VIP {
	prefix, complaint := address(raw.Address)
	if complaint != "" {
		c.report("Invalid address", raw.AddressRange, complaint)
	}
	return VIP{
		Prefix:       prefix,
		Interface:    value(c, raw.Interface, "", interfaceName),
		Priority:     value(c, raw.Priority, DefaultPriority, priority),
		OnConflict:   value(c, raw.OnConflict, DefaultOnConflict, choice(ConflictExit, ConflictQuit, ConflictDefend, ConflictLog)),
		OnLoss:       value(c, raw.OnLoss, DefaultOnLoss, choice(LossExit, LossContend)),
		Takeover:     value(c, raw.Takeover, DefaultTakeover, choice(TakeoverProbe, TakeoverStrict)),
		PreemptDelay: c.preemptDelay(raw),
		DeadMan:      value(c, raw.DeadMan, DefaultDeadMan, deadMan(consul.SessionTTL)),
		Announce:     one(c, "announce", raw.Announce, rawAnnounce.at, c.announce),
	}
}

// preemptDelay is 0 unless the VIP is to preempt at all.
func (c *checker) preemptDelay(raw rawVIP) time.Duration {
	delay := value(c, raw.PreemptDelay, DefaultPreemptDelay, preemptDelay)
	if !value(c, raw.Preempt, false, anything[bool]) {
		return 0
	}
	return delay
}

func (c *checker) announce(raw rawAnnounce) Announce {
	interval := value(c, raw.Interval, DefaultInterval, interval)
	return Announce{
		Interval: interval,
		Jitter:   value(c, raw.Jitter, interval/10, jitter(interval)),
	}
}

// distinct reports every address that was there before, however it is written.
func (c *checker) distinct(raw []rawVIP, vips []VIP) {
	first := make(map[netip.Addr]hcl.Range)
	for i, vip := range vips {
		if !vip.Addr().IsValid() {
			continue
		}
		at := raw[i].AddressRange
		if before, ok := first[vip.Addr()]; ok {
			c.report("Address given twice", at,
				fmt.Sprintf("%s has a vip block already, at %s.", vip.Addr(), position(before)))
			continue
		}
		first[vip.Addr()] = at
	}
}

func (r rawConsul) at() hcl.Range   { return r.Range }
func (r rawAnnounce) at() hcl.Range { return r.Range }

// one checks all the blocks of a kind of which there may be one, and returns
// the values of the first. Without any, check completes an empty one.
func one[R, V any](c *checker, kind string, blocks []R, at func(R) hcl.Range, check func(R) V) V {
	if len(blocks) == 0 {
		var none R
		return check(none)
	}
	v := check(blocks[0])
	for _, block := range blocks[1:] {
		c.report(fmt.Sprintf("Duplicate %s block", kind), at(block),
			fmt.Sprintf("Only one %s block is allowed here, and there is one at %s already.", kind, position(at(blocks[0]))))
		check(block)
	}
	return v
}

// value evaluates a as a T and has parse judge it. It is def where a is left
// out or null, and where it is wrong, which is reported.
func value[T, V any](c *checker, a *hcl.Attribute, def V, parse func(T) (V, string)) V {
	if a == nil {
		return def
	}
	if word, ok := a.Expr.(*hclsyntax.ScopeTraversalExpr); ok {
		c.report("Invalid "+a.Name, a.Expr.Range(), unquoted(word))
		return def
	}
	var given *T
	_, diags := a.Expr.Value(evaluation)
	if !diags.HasErrors() { // else decoding only complains of the value that is not there
		diags = gohcl.DecodeExpression(a.Expr, evaluation, &given)
	}
	if diags.HasErrors() {
		c.diags = append(c.diags, diags...)
		return def
	}
	if given == nil {
		return def
	}
	v, complaint := parse(*given)
	if complaint != "" {
		c.report("Invalid "+a.Name, a.Expr.Range(), complaint)
		return def
	}
	return v
}

// unquoted answers a bare word, which HCL takes for a variable.
func unquoted(word *hclsyntax.ScopeTraversalExpr) string {
	if len(word.Traversal) == 1 {
		return fmt.Sprintf("Text needs quotes. Did you mean %q?", word.Traversal.RootName())
	}
	return "Text needs quotes."
}

func (c *checker) report(summary string, at hcl.Range, detail string) {
	c.diags = append(c.diags, &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  summary,
		Detail:   detail,
		Subject:  &at,
	})
}
