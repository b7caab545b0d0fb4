package main

// The page's text, in Markdown.

import "github.com/consul-vip/consul-vip/integration/lab"

const intro = `# Benchmarks

` + "`make bench`" + ` writes this page. It shows what a client sees when the host that owns
the address fails: in one lab and in one run, with consul-vip and with two programs
that do a similar job. Every figure is "median / worst" of all repetitions, in
milliseconds. The worst is what nine of ten runs keep to; the slowest run of all follows
in brackets if it took longer. Figures that are equal appear once. "Not taken over"
means: not within %d s (%d s for a killed or frozen ` + "`consul lock`" + `). "–" means that
there is nothing to measure. keepalived does without Consul: it is measured in the first
world, and its figures stand in both.

`

const gapText = `The client sends an echo request every millisecond. Less is better.

`

const manyText = `Each of a hundred addresses has a client that sends an echo request every
10 ms, so a gap is 10 ms too long or too short at most. "All back" is the time from the
failure until another host has answered for the last address; after SIGKILL, the kernel of
the old host serves for some seconds more.

`

const webText = `nginx answers behind the address, and ` + "`wrk`" + ` sends requests through four
connections at a time, a new one for each request, until the repetition ends. The figures
are the sums of all repetitions, the slowest request of all, and the client's longest gap.
The time of a request begins when its connection is established; a connection that has
to wait for an owner shows as a gap.

`

const phasesText = `From the log of the successor: how long it took to detect the failure, to
have Consul commit the lock, to prove that no station has the address any more, to bind
it, and to announce it. An older consul-vip does not log this.

`

const takenText = `This is not the same: as long as the old owner answers, the client misses nothing.

`

const doubleText = `The observer asks by ARP or neighbor discovery every 10 ms which host has the address, and every 50 ms for each
of a hundred addresses. The figure is the number of its questions that two hosts answered,
times this interval. It must always be 0. ">" means that two hosts still had the address
at the end of the repetition.

`

const leftText = `Does the old host still have the address at the end of the repetition? If it may keep
it, the end is at least %[1]d s after the failure and at least %[1]d s after the takeover. When
its cable or its process comes back, it answers again. A dead host has no address.

`

const aimsText = `All figures are the client's longest gap, unless the aim says otherwise. The
worst is that of nine of ten runs.

`

const handoverText = `From the time stamps of both logs, in milliseconds since the signal. The old owner
answers the client until the address is unbound. Each line is logged after the event,
so the last three are less exact than the client's gap.

`

const method = `Three hosts, a client and an observer are network namespaces on one machine; a bridge
connects them. Consul's ` + "`raft_multiplier`" + ` is 1.

For each repetition, the daemons of all three hosts start anew, and another host is the
owner, as far as its role allows it. All daemons are ready for three seconds before
the failure. A daemon that ends starts again after a second, as
a scheduler restarts it, except the one that the failure hits.

- **consul-vip** has the configuration ` + "`vip \"10.77.0.100\" {}`" + ` and defaults for all else
  (except that the log is JSON). "consul-vip 10ms" also has
  ` + "`host_check { interval = \"10ms\"  misses = 5 }`" + `; it is measured where a host fails.
  "consul-vip IPv6" has ` + "`vip \"fd77::100\" {}`" + ` instead.
- **keepalived** is Debian's, with adverts every 1 s (VRRP version 2), 100 ms and
  10 ms (version 3), priorities 150, 100 and 50, and defaults for all else.
- **consul lock** runs a script that binds the address, sends a gratuitous ARP with
  arping every 5 s, and removes the address when it gets a signal to end.

The failures, all of the host that owns the address:

- *planned stop*: SIGTERM to the daemon, as a scheduler or systemd stops it.
- *SIGKILL*: to all processes of consul-vip (one) and of keepalived (two: if only the
  first is killed, the second notices that and stops in an orderly way), but only to
  ` + "`consul lock`" + ` itself: its script is not the daemon and goes on.
- *SIGSTOP*: to all processes, also to those of the script.
- *session destroyed*, *key deleted*: the session that holds the lock, or the key of the
  lock, is deleted through Consul's API.
- *host death*: all cables are taken out, then all processes and the host's Consul agent
  are killed. The agent is not Consul's leader, except in the row that says so.
- *cut-off from Consul*: a firewall on the host drops the traffic between its Consul
  agent and the other hosts.
- *carrier loss*: the cable of the address is taken out and stays out; no process is
  touched.
- *foreign claim*: one gratuitous ARP request for the address from a MAC that belongs to
  none of the hosts, or for IPv6 one unsolicited neighbor advertisement. The client believes it until another frame corrects it or its
  neighbour entry expires.

- *service dies*: a check that the address requires fails; it runs every 100 ms, with
  ` + "`rise = 1`, `fall = 1`" + `. The address answers on until it moves.

A planned stop is measured with one program at a time, and so is every failure with
consul-vip. Other takeovers that take seconds are measured side by side, each with an
address of its own, because otherwise the run would take hours: keepalived with 1 s and
with 100 ms, also with ` + "`consul lock`" + ` if the host fails; all repetitions of
` + "`consul lock`" + ` that is killed, frozen, or loses its session or its key.

The gap is the time from the first request without an answer to the next one with an
answer. The figure is the longest gap that ended after the failure. A request without an
answer within 100 ms counts as lost. The repetition ends at least one second after
another host's first answer to the client. If the old host may keep the address, it ends
at least %[1]d s after the failure and when the old host has removed the address, but at
most %[1]d s after the takeover.

All hosts share one machine, so a frame takes microseconds and a write to Consul about a
millisecond. On real hosts, add the latency of the network. Failed switch ports and lost
frames are not part of these figures.
`

// worldTexts is what the page says about a world.
type worldTexts struct {
	title  string
	consul string // how Consul runs
}

var worlds = map[lab.World]worldTexts{
	lab.Clients: {
		title: "Client agents on the hosts (`clients`)",
		consul: `Each host runs a Consul client agent. The three servers are machines of their own,
Consul has a network of its own, and the segment of the addresses has a gateway. Without
the cable of the address, Consul stays reachable. No host of the addresses is Consul's
leader.`,
	},
	lab.ServersOnHosts: {
		title: "Servers on the hosts (`servers`)",
		consul: `Each host runs a Consul server, which uses the same cable as the address. There is no
gateway. A carrier loss cuts the host off from Consul too.`,
	},
}
