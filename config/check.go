package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// checker turns raw values into checked ones and collects the problems.
type checker struct {
	complete bool            // all files were read and parsed
	env      environment     // what the files leave out
	diags    hcl.Diagnostics // the problems so far
	// noDeadMan is the first address that leaves dead_man out.
	noDeadMan *hcl.Range
	// checkTTL is where the first consul block gets check_ttl from; nil: it leaves it out.
	checkTTL *hcl.Attribute
}

// config checks the merged bodies of all files.
func (c *checker) config(body hcl.Body) *Config {
	var raw rawConfig
	c.diags = gohcl.DecodeBody(body, evaluation, &raw)
	raw = complete(c.env, raw)
	if len(raw.VIPs) == 0 {
		raw.VIPs = c.env.vips()
	}
	if len(raw.VIPs) == 0 && c.complete && !c.diags.HasErrors() { // otherwise a block may have been skipped
		c.report("Missing vip block", body.MissingItemRange(),
			`There is no address to look after. Add one, for example: vip "10.77.0.100" {}`)
	}
	cfg := &Config{
		LogLevel: value(c, raw.LogLevel, DefaultLogLevel, logLevel),
		LogJSON:  value(c, raw.LogJSON, false, unchecked[bool]),
		NodeName: value(c, raw.NodeName, "", nodeName),
		Socket:   value(c, raw.Socket, DefaultSocket, socketPath),
		Consul:   single(c, "consul", raw.Consul, rawConsul.at, c.consul),
	}
	cfg.HostCheck = single(c, "host_check", raw.HostCheck, rawHostCheck.at, c.topHostCheck)
	for _, vip := range raw.VIPs {
		cfg.VIPs = append(cfg.VIPs, c.vip(vip, cfg))
	}
	c.distinct(raw.VIPs, cfg.VIPs)
	c.checks(raw.Checks, raw.VIPs, cfg)
	c.hooks(raw.Hooks, cfg)
	c.defaultDeadMan(cfg.Consul.CheckTTL)
	return cfg
}

func (c *checker) consul(raw rawConsul) Consul {
	raw = complete(c.env, raw, "consul")
	if c.checkTTL == nil {
		c.checkTTL = raw.CheckTTL
	}
	return Consul{
		Address:    value(c, raw.Address, "", agentAddress),
		TokenFile:  value(c, raw.TokenFile, "", filename),
		Prefix:     value(c, raw.Prefix, DefaultPrefix, keyPrefix),
		Service:    value(c, raw.Service, DefaultService, serviceName),
		SessionTTL: value(c, raw.SessionTTL, DefaultSessionTTL, sessionTTL),
		CheckTTL:   value(c, raw.CheckTTL, DefaultCheckTTL, checkTTL),
	}
}

// vip checks a block, given the top level and the consul block.
func (c *checker) vip(raw rawVIP, top *Config) VIP {
	raw = complete(c.env, raw, "vip")
	prefix, complaint := address(raw.Address)
	if complaint != "" {
		c.report("Invalid address", raw.AddressRange, complaint)
	}
	vip := VIP{
		Prefix:       prefix,
		Unbound:      !value(c, raw.Bind, true, unchecked[bool]),
		Interface:    value(c, raw.Interface, "", interfaceName),
		Priority:     value(c, raw.Priority, DefaultPriority, priority),
		OnConflict:   value(c, raw.OnConflict, DefaultOnConflict, choice(ConflictExit, ConflictQuit, ConflictContend, ConflictDefend, ConflictLog)),
		OnLoss:       value(c, raw.OnLoss, DefaultOnLoss, choice(LossExit, LossContend)),
		Takeover:     value(c, raw.Takeover, DefaultTakeover, choice(TakeoverProbe, TakeoverStrict)),
		PreemptDelay: c.preemptDelay(raw),
		DeadMan:      value(c, raw.DeadMan, DefaultDeadMan, deadMan(top.Consul)),
		Require:      value(c, raw.Require, nil, checkNames),
		WhenNoneFit:  value(c, raw.WhenNoneFit, DefaultWhenNoneFit, choice(NoneFitKeep, NoneFitRelease)),
		Announce:     single(c, "announce", raw.Announce, rawAnnounce.at, c.announce),
		HostCheck:    single(c, "host_check", raw.HostCheck, rawHostCheck.at, c.hostCheck(top.HostCheck)),
	}
	if !isSet(raw.Require) {
		c.needless("It matters only with require.", raw.WhenNoneFit)
	}
	if c.noDeadMan == nil && !isSet(raw.DeadMan) && !vip.Unbound {
		c.noDeadMan = &raw.AddressRange
	}
	switch {
	case vip.Unbound:
		vip.Interface, vip.HostCheck.Misses = "", 0
		c.unbound(raw)
	case vip.Takeover == TakeoverStrict:
		vip.HostCheck.Misses = 0
		c.strictHostCheck(raw)
	}
	return vip
}

// unbound reports what can have no effect on an address that is not bound here.
func (c *checker) unbound(raw rawVIP) {
	const why = "With bind = false nothing is bound or sent on the network."
	c.needless(why, raw.Interface, raw.OnConflict, raw.Takeover, raw.DeadMan)
	for _, block := range slices.Concat(ranges(raw.Announce, rawAnnounce.at), ranges(raw.HostCheck, rawHostCheck.at)) {
		c.report("Needless block", block, why+" Leave the block out.")
	}
}

// ranges returns where blocks are.
func ranges[R any](blocks []R, at func(R) hcl.Range) (ranges []hcl.Range) {
	for _, b := range blocks {
		ranges = append(ranges, at(b))
	}
	return ranges
}

// strictHostCheck reports a host_check block that can have no effect.
func (c *checker) strictHostCheck(raw rawVIP) {
	if len(raw.HostCheck) > 0 {
		c.report("Needless host_check block", raw.HostCheck[0].Range, fmt.Sprintf(`With takeover = "strict"%s there is no host check: `+
			"the address stays with its owner until Consul has ended that session. Leave the block out.", byVariable(raw.Takeover)))
	}
}

// topHostCheck checks the host_check block at the top level.
func (c *checker) topHostCheck(raw rawHostCheck) HostCheck {
	byDefault := HostCheck{Interval: DefaultHostCheckInterval, Misses: DefaultHostCheckMisses}
	return c.hostCheck(byDefault)(complete(c.env, raw, "host_check"))
}

// hostCheck returns a check of a host_check block whose missing keys are as in def.
func (c *checker) hostCheck(def HostCheck) func(rawHostCheck) HostCheck {
	return func(raw rawHostCheck) HostCheck {
		return HostCheck{
			Interval: value(c, raw.Interval, def.Interval, hostCheckInterval),
			Misses:   value(c, raw.Misses, def.Misses, misses),
		}
	}
}

// defaultDeadMan reports a check_ttl for which the default of dead_man is too short.
func (c *checker) defaultDeadMan(check time.Duration) {
	least := leastDeadMan(check)
	if c.noDeadMan == nil || least <= DefaultDeadMan {
		return
	}
	c.report("Invalid check_ttl", c.checkTTL.Expr.Range(), fmt.Sprintf(
		"With %s, dead_man must be at least %s for every address: a killed owner's address must stay until its lock is free. "+
			"The one at %s leaves it out, which makes it %s.", check, least, position(*c.noDeadMan), DefaultDeadMan))
}

// preemptDelay returns 0 unless preempt is set. It checks the delay in any case.
func (c *checker) preemptDelay(raw rawVIP) time.Duration {
	delay := value(c, raw.PreemptDelay, DefaultPreemptDelay, preemptDelay)
	if !value(c, raw.Preempt, false, unchecked[bool]) {
		return 0
	}
	return delay
}

func (c *checker) announce(raw rawAnnounce) Announce {
	raw = complete(c.env, raw, "vip", "announce")
	interval := value(c, raw.Interval, DefaultInterval, interval)
	return Announce{
		Interval: interval,
		Jitter:   value(c, raw.Jitter, interval/10, jitter(interval)),
	}
}

// distinct reports each repeated address, also if it is written differently.
func (c *checker) distinct(raw []rawVIP, vips []VIP) {
	first := make(map[netip.Addr]hcl.Range)
	for i, vip := range vips {
		if !vip.Addr().IsValid() {
			continue
		}
		at := raw[i].AddressRange
		if before, ok := first[vip.Addr()]; ok {
			c.report("Address given twice", at,
				fmt.Sprintf("%s is there already, at %s.", vip.Addr(), position(before)))
			continue
		}
		first[vip.Addr()] = at
	}
}

// single checks all blocks of a kind that is allowed once, reports the repeated ones,
// and returns the values of the first. If there is none, it returns the defaults, which
// check makes of an empty block.
func single[R, V any](c *checker, kind string, blocks []R, at func(R) hcl.Range, check func(R) V) V {
	if len(blocks) == 0 {
		var empty R
		return check(empty)
	}
	v := check(blocks[0])
	for _, block := range blocks[1:] {
		c.report(fmt.Sprintf("Duplicate %s block", kind), at(block),
			fmt.Sprintf("Only one %s block is allowed here, and there is one at %s already.", kind, position(at(blocks[0]))))
		check(block)
	}
	return v
}

// value evaluates an attribute as a T and checks it with parse. It returns def if the
// attribute is left out or null. It also returns def after reporting a problem.
func value[T, V any](c *checker, a *hcl.Attribute, def V, parse func(T) (V, string)) V {
	if a == nil {
		return def
	}
	if word, ok := a.Expr.(*hclsyntax.ScopeTraversalExpr); ok {
		c.report("Invalid "+a.Name, a.Expr.Range(), unquoted(word))
		return def
	}
	var given *T
	v, diags := a.Expr.Value(evaluation)
	if !diags.HasErrors() && v.IsNull() {
		return def
	}
	if !diags.HasErrors() { // otherwise decoding would only report that the value is missing
		diags = gohcl.DecodeExpression(a.Expr, evaluation, &given)
	}
	if diags.HasErrors() {
		c.diags = append(c.diags, diags...)
		return def
	}
	if given == nil {
		return def
	}
	parsed, complaint := parse(*given)
	if complaint != "" {
		c.report("Invalid "+a.Name, a.Expr.Range(), complaint)
		return def
	}
	return parsed
}

// isSet reports whether an attribute is there and not null.
func isSet(a *hcl.Attribute) bool {
	if a == nil {
		return false
	}
	v, diags := a.Expr.Value(evaluation)
	return diags.HasErrors() || !v.IsNull()
}

// byVariable names the variable that an attribute comes from, if it does.
func byVariable(a *hcl.Attribute) string {
	if !isVariable(a.NameRange) {
		return ""
	}
	return ", as " + a.NameRange.Filename + " says,"
}

// unquoted explains a bare word, which HCL reads as a variable.
func unquoted(word *hclsyntax.ScopeTraversalExpr) string {
	if len(word.Traversal) == 1 {
		return fmt.Sprintf("Text needs quotes. Did you mean %q?", word.Traversal.RootName())
	}
	return "Text needs quotes."
}

// report adds a problem.
func (c *checker) report(summary string, at hcl.Range, detail string) {
	c.diags = append(c.diags, &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  summary,
		Detail:   detail,
		Subject:  &at,
	})
}
