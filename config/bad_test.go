package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/config"
)

// badSources are configurations with one problem each, its position, and some words of
// its explanation. TestGolden checks the complete text.
var badSources = []struct {
	name, src string
	at, says  string
}{
	// Keys and blocks.
	{"unknown key", atTop(`log_levl = "info"`), "1:1", `Did you mean "log_level"?`},
	{"unknown key of consul", inConsul(`adress = "127.0.0.1:8500"`), "2:1", `Did you mean "address"?`},
	{"unknown key of a vip", inVIP(`interfcae = "eth0"`), "2:1", `Did you mean "interface"?`},
	{"unknown key of announce", inAnnounce(`intervall = "10s"`), "3:1", `Did you mean "interval"?`},
	{"unknown block", inVIP(`anounce {}`), "2:1", `Did you mean "announce"?`},
	{"a token in the file", inConsul(`token = "secret"`), "2:1", `"token" is not expected here`},
	{"key for a block", atTop(`consul = {}`), "1:1", `Did you mean to define a block of type "consul"?`},
	{"block for a key", inVIP(`interface {}`), "2:1", `Did you mean to define argument "interface"?`},
	{"key twice", inVIP("priority = 1\npriority = 1"), "3:1", "already set at test.hcl:2,1-9"},
	{"block twice", atTop("consul {}\nconsul {}"), "2:1", "there is one at test.hcl:1:1"},
	{"unknown key of host_check", inHostCheck(`mises = 8`), "2:1", `Did you mean "misses"?`},
	{"host_check with a label", atTop(`host_check "eth0" {}`), "1:12", "Extraneous label for host_check"},
	{"host_check twice", atTop("host_check {}\nhost_check {}"), "2:1", "there is one at test.hcl:1:1"},
	{"host_check of a vip twice", inVIP("host_check {}\nhost_check {}"), "3:1", "there is one at test.hcl:2:1"},
	{"host_check of a strict vip", inVIP("takeover = \"strict\"\nhost_check {}"), "3:1", `With takeover = "strict" there is no host check`},
	{"host_check of a strict vip, off", inVIP("host_check { misses = 0 }\ntakeover = \"strict\""), "2:1", "Leave the block out."},
	{"announce twice", inVIP("announce {}\nannounce {}"), "3:1", "there is one at test.hcl:2:1"},
	{"no vip", "log_json = true", "1:1", `for example: vip "10.77.0.100" {}`},
	{"nothing", "", "1:1", `for example: vip "10.77.0.100" {}`},
	{"vip without address", "vip {}", "1:5", "Missing address for vip"},
	{"vip with two labels", `vip "10.77.0.100" "eth0" {}`, "1:19", "Extraneous label for vip"},

	// Types and expressions.
	{"text for a number", inVIP(`priority = "high"`), "2:13", "a number is required"},
	{"list for text", inVIP(`interface = ["eth0"]`), "2:13", "string required"},
	{"text for a flag", atTop(`log_json = "yes"`), "1:13", "a bool is required"},
	{"text without quotes", inVIP(`interface = eth0`), "2:13", `Did you mean "eth0"?`},
	{"name without quotes", inVIP(`interface = eth0.vlan`), "2:13", "Text needs quotes."},
	{"variable", inVIP(`interface = "${name}"`), "2:16", "Variables may not be used here"},
	{"unknown function", inVIP(`interface = evn("X")`), "2:13", `Did you mean "env"?`},
	{"unset variable", inVIP(`interface = env("TEST_UNSET")`), "2:18", "TEST_UNSET is not set"},
	{"env with two defaults", inVIP(`interface = env("A", "b", "c")`), "2:28", "at most one default"},

	// Names.
	{"log level", atTop(`log_level = "warning"`), "1:13", `none of "trace", "debug", "info", "warn", "error"`},
	{"log level typo", atTop(`log_level = "debgu"`), "1:13", `Did you mean "debug"?`},
	{"on_conflict", inVIP(`on_conflict = "deffend"`), "2:15", `Did you mean "defend"?`},
	{"on_loss", inVIP(`on_loss = "Contend"`), "2:11", `Did you mean "contend"?`},
	{"takeover", inVIP(`takeover = "prob"`), "2:12", `Did you mean "probe"?`},
	{"node name empty", atTop(`node_name = ""`), "1:13", "Leave the key out"},
	{"node name with slash", atTop(`node_name = "rack/h1"`), "1:13", "is not a node name"},
	{"node name that is a dash", atTop(`node_name = "-"`), "1:13", "at least one letter or digit"},
	{"node name that is a path", atTop(`node_name = ".."`), "1:13", "is not a node name"},
	{"socket relative", atTop(`socket = "agent.sock"`), "1:10", "is not the absolute path of a socket"},
	{"socket that is a directory", atTop(`socket = "/run/consul-vip/"`), "1:10", "is not the absolute path of a socket"},
	{"socket with a zero byte", atTop(`socket = "/run/\u0000"`), "1:10", "is not the absolute path of a socket"},
	{"socket too long", atTop(`socket = "/` + strings.Repeat("s", 107) + `"`), "1:10", "has 108 bytes; the path of a socket has at most 107"},
	{"socket off by a bool", atTop(`socket = false`), "1:10", "is not the absolute path of a socket"},
	{"interface empty", inVIP(`interface = ""`), "2:13", "Leave the key out"},
	{"interface too long", inVIP(`interface = "enp0s31f6.100001"`), "2:13", "has 16 characters"},
	{"interface with slash", inVIP(`interface = "eth/0"`), "2:13", "is not an interface name"},
	{"interface with alias", inVIP(`interface = "eth0:1"`), "2:13", "is not an interface name"},
	{"interface with space", inVIP(`interface = "eth 0"`), "2:13", "is not an interface name"},
	{"interface that is a path", inVIP(`interface = ".."`), "2:13", "is not an interface name"},
	{"prefix empty", inConsul(`prefix = ""`), "2:10", "is not a key prefix"},
	{"prefix of a slash", inConsul(`prefix = "/"`), "2:10", "is not a key prefix"},
	{"prefix with an empty part", inConsul(`prefix = "a//b"`), "2:10", "is not a key prefix"},
	{"prefix with two slashes", inConsul(`prefix = "//a"`), "2:10", "is not a key prefix"},
	{"prefix with a dot", inConsul(`prefix = "a/./b"`), "2:10", "is not a key prefix"},
	{"prefix with dots", inConsul(`prefix = "a/.."`), "2:10", "is not a key prefix"},
	{"service", inConsul(`service = "consul_vip"`), "2:11", "is not a service name"},
	{"token file empty", inConsul(`token_file = " "`), "2:14", "Leave the key out"},
	{"agent address empty", inConsul(`address = ""`), "2:11", "is not the address of a Consul agent"},
	{"agent address scheme", inConsul(`address = "tcp://127.0.0.1:8500"`), "2:11", "is not the address of a Consul agent"},
	{"agent address port", inConsul(`address = "127.0.0.1:85000"`), "2:11", "is not the address of a Consul agent"},
	{"agent address half", inConsul(`address = "127.0.0.1:"`), "2:11", "is not the address of a Consul agent"},
	{"agent address without host", inConsul(`address = ":8500"`), "2:11", "is not the address of a Consul agent"},
	{"agent address socket", inConsul(`address = "unix://consul.sock"`), "2:11", "is not the address of a Consul agent"},

	// Numbers and durations.
	{"priority negative", inVIP(`priority = -1`), "2:12", "from 0 (preferred) to 1000"},
	{"priority too high", inVIP(`priority = 1001`), "2:12", "from 0 (preferred) to 1000"},
	{"priority a fraction", inVIP(`priority = 1.5`), "2:12", "is not a whole number"},
	{"duration without unit", inConsul(`session_ttl = 30`), "2:15", `Did you mean "30s"?`},
	{"duration zero without unit", inAnnounce("jitter = 0"), "3:10", `Did you mean "0s"?`},
	{"duration of words", inConsul(`session_ttl = "a while"`), "2:15", "is not a duration"},
	{"duration past all bounds", inConsul(`session_ttl = "9999999999h"`), "2:15", "is not a duration"},
	{"session_ttl low", inConsul(`session_ttl = "9s"`), "2:15", "too short. Consul takes 10s to 24h"},
	{"session_ttl high", inConsul(`session_ttl = "86401s"`), "2:15", "too long. Consul takes 10s to 24h"},
	{"session_ttl negative", inConsul(`session_ttl = "-30s"`), "2:15", "too short"},
	{"check_ttl low", inConsul(`check_ttl = "1s"`), "2:13", "too short. It takes 2s to 1m"},
	{"check_ttl high", inConsul(`check_ttl = "61s"`), "2:13", "too long. It takes 2s to 1m"},
	{"check_ttl negative", inConsul(`check_ttl = "-1s"`), "2:13", "too short"},
	{"preempt_delay low", inVIP(`preempt_delay = "10ms"`), "2:17", "too short"},
	{"preempt a word", inVIP(`preempt = "often"`), "2:12", "bool"},
	{"dead_man low", inVIP(`dead_man = "1s"`), "2:12", "too short"},
	{"dead_man at the hold's end", inVIP(`dead_man = "29s"`), "2:12", "which is 29s"},
	{"dead_man of a short session", "consul {\nsession_ttl = \"10s\"\n}\n" + inVIP(`dead_man = "9s"`), "5:12", "which is 9s"},
	{"dead_man of the default check_ttl", inVIP(`dead_man = "6s"`), "2:12", "check_ttl + 2s, which is 7s"},
	{"dead_man of a check_ttl", "consul {\ncheck_ttl = \"8s\"\n}\n" + inVIP(`dead_man = "9s"`), "5:12", "check_ttl + 2s, which is 10s"},
	{"dead_man that cannot be", "consul {\nsession_ttl = \"10s\"\ncheck_ttl = \"8s\"\n}\n" + inVIP(`dead_man = "9s"`), "6:12", "which is 10s, to less than session_ttl - 1s, which is 9s"},
	{"check_ttl of the default dead_man", "consul {\ncheck_ttl = \"6s\"\n}\n" + inVIP(""), "2:13", "With 6s, dead_man must be at least 8s"},
	{"dead_man without a check", "consul {\ncheck_ttl = \"0s\"\n}\n" + inVIP(`dead_man = "1s"`), "5:12", "It takes 2s, because it is refreshed every second"},
	{"dead_man a fraction", inVIP(`dead_man = "7500ms"`), "2:12", "whole seconds"},
	{"host_check interval low", inHostCheck(`interval = "4ms"`), "2:12", "too short. It takes 5ms to 1s"},
	{"host_check interval high", inHostCheck(`interval = "1001ms"`), "2:12", "too long. It takes 5ms to 1s"},
	{"host_check interval without unit", inHostCheck(`interval = 25`), "2:12", `Did you mean "25ms"?`},
	{"host_check interval of a vip", inVIP("host_check {\ninterval = \"0s\"\n}"), "3:12", "too short. It takes 5ms to 1s"},
	{"misses low", inHostCheck(`misses = 2`), "2:10", "from 3 to 100, or 0 for no host check"},
	{"misses high", inHostCheck(`misses = 101`), "2:10", "from 3 to 100"},
	{"misses negative", inHostCheck(`misses = -1`), "2:10", "from 3 to 100"},
	{"misses a fraction", inHostCheck(`misses = 3.5`), "2:10", "is not a whole number"},
	{"misses of a vip", inVIP("host_check {\nmisses = 1\n}"), "3:10", "from 3 to 100"},
	{"misses of words", inHostCheck(`misses = "few"`), "2:11", "a number is required"},
	{"interval low", inAnnounce(`interval = "500ms"`), "3:12", "too short. It takes 1s to 1h"},
	{"interval high", inAnnounce(`interval = "2h"`), "3:12", "too long. It takes 1s to 1h"},
	{"jitter of the interval", inAnnounce("interval = \"5s\"\njitter = \"5s\""), "4:10", "less than the interval, 5s"},
	{"jitter of the default interval", inAnnounce(`jitter = "10s"`), "3:10", "less than the interval, 10s"},
	{"jitter negative", inAnnounce(`jitter = "-1s"`), "3:10", "too short"},

	// Checks.
	{"check without a target", inCheck(""), "1:7", "http, tcp, command or service"},
	{"check with two targets", inCheck("tcp = \"127.0.0.1:80\"\nhttp = \"http://127.0.0.1\""), "2:1", "The check has http already, at test.hcl:3:1"},
	{"check without a name", atTop("check {\ntcp = \"127.0.0.1:80\"\n}"), "1:7", "Missing name for check"},
	{"check name", atTop("check \"a b\" {\ntcp = \"127.0.0.1:80\"\n}"), "1:7", "is not a name"},
	{"check twice", atTop("check \"a\" {\ntcp = \"127.0.0.1:80\"\n}\ncheck \"a\" {\ntcp = \"127.0.0.1:80\"\n}"), "4:7", "at test.hcl:1:7"},
	{"unknown key of check", inTCP(`intervall = "1s"`), "3:1", `Did you mean "interval"?`},
	{"http without scheme", inCheck(`http = "127.0.0.1:8080/ping"`), "2:8", "is not an HTTP URL"},
	{"http of another scheme", inCheck(`http = "ftp://127.0.0.1"`), "2:8", "is not an HTTP URL"},
	{"tcp without port", inCheck(`tcp = "127.0.0.1"`), "2:7", "is not a host and a port"},
	{"tcp with a path", inCheck(`tcp = "127.0.0.1:80/x"`), "2:7", "is not a host and a port"},
	{"command empty", inCheck(`command = []`), "2:11", "The list is empty"},
	{"command as a line", inCheck(`command = ["/bin/ok -q"]`), "2:11", "there is no shell"},
	{"command as text", inCheck(`command = "/bin/ok"`), "2:12", "list of string required"},
	{"check service", inCheck(`service = "a_b"`), "2:11", "is not a service name"},
	{"check interval low", inTCP(`interval = "99ms"`), "3:12", "too short. It takes 100ms to 1h"},
	{"check timeout", inTCP("interval = \"1s\"\ntimeout = \"1s\""), "4:11", "less than the interval, 1s"},
	{"check timeout zero", inTCP(`timeout = "0s"`), "3:11", "too short"},
	{"rise", inTCP(`rise = 0`), "3:8", "is not a whole number from 1 to 100"},
	{"fall", inTCP(`fall = 1.5`), "3:8", "is not a whole number from 1 to 100"},
	{"expect of tcp", inTCP(`expect = 200`), "3:1", "It belongs to http"},
	{"header of tcp", inTCP(`header = { a = "b" }`), "3:1", "It belongs to http"},
	{"expect nothing", inCheck("http = \"http://127.0.0.1\"\nexpect = \"\""), "3:10", "It is empty"},
	{"header name", inCheck("http = \"http://127.0.0.1\"\nheader = { \"a b\" = \"c\" }"), "3:10", "is not the name of an HTTP header"},
	{"tcp through a vip", inCheck(`tcp = "10.77.0.100:80"`), "2:7", "10.77.0.100 is a floating address"},
	{"http through a vip", inCheck(`http = "https://10.77.0.100/ping"`), "2:8", "is a floating address"},
	{"http through an IPv6 vip", "check \"a\" {\nhttp = \"http://[fd77::100]:80/\"\n}\n" + vipBlock("fd77::100"), "2:8", "is a floating address"},
	{"require of an unknown check", "check \"traefik\" {\ntcp = \"127.0.0.1:80\"\n}\n" + inVIP(`require = ["traefk"]`), "5:11", `Did you mean "traefik"?`},
	{"require twice", "check \"a\" {\ntcp = \"127.0.0.1:80\"\n}\n" + inVIP(`require = ["a", "a"]`), "5:11", "is there twice"},
	{"require as text", inVIP(`require = "a"`), "2:12", "list of string required"},
	{"when_none_fit", inVIP("require = []\nwhen_none_fit = \"stay\""), "3:17", `none of "keep", "release"`},
	{"when_none_fit alone", inVIP(`when_none_fit = "keep"`), "2:1", "It matters only with require"},

	// Hooks.
	{"hook without events", atTop("hook \"a\" {\ncommand = [\"true\"]\n}"), "1:6", "A hook says when to run what"},
	{"hook without a command", atTop("hook \"a\" {\non = [\"fit\"]\n}"), "1:6", "A hook says when to run what"},
	{"hook name", inNamedHook("a b", ""), "1:6", "is not a name"},
	{"hook twice", inHook("") + "\nhook \"a\" {\non = [\"fit\"]\ncommand = [\"true\"]\n}", "7:6", `There is a hook "a" already, at test.hcl:1:6`},
	{"hook event", atTop("hook \"a\" {\non = [\"acquird\"]\ncommand = [\"true\"]\n}"), "2:6", `Did you mean "acquired"?`},
	{"hook event twice", atTop("hook \"a\" {\non = [\"fit\", \"fit\"]\ncommand = [\"true\"]\n}"), "2:6", "is there twice"},
	{"hook of no event", atTop("hook \"a\" {\non = []\ncommand = [\"true\"]\n}"), "2:6", "the hook would never run"},
	{"hook command as a line", atTop("hook \"a\" {\non = [\"fit\"]\ncommand = [\"true -x\"]\n}"), "3:11", "there is no shell"},
	{"hook timeout low", inHook(`timeout = "99ms"`), "4:11", "too short. It takes 100ms to 5m"},
	{"hook timeout high", inHook(`timeout = "6m"`), "4:11", "too long. It takes 100ms to 5m"},
	{"hook of no address", inHook(`vips = []`), "4:8", "Leave the key out for all addresses"},
	{"hook of an unknown address", inHook(`vips = ["10.77.0.9"]`), "4:8", "10.77.0.9 has no vip block"},
	{"hook of a prefix", inHook(`vips = ["10.77.0.100/32"]`), "4:8", "Write the address alone"},
	{"hook of a name", inHook(`vips = ["web"]`), "4:8", "is not an IP address"},
	{"unknown key of hook", inHook(`shell = true`), "4:1", `Unsupported argument`},

	// Addresses that are not bound.
	{"bind as text", inVIP(`bind = "no"`), "2:9", "a bool is required"},
	{"interface without bind", inVIP("bind = false\ninterface = \"eth0\""), "3:1", "With bind = false nothing is bound"},
	{"dead_man without bind", inVIP("bind = false\ndead_man = \"9s\""), "3:1", "With bind = false nothing is bound"},
	{"takeover without bind", inVIP("bind = false\ntakeover = \"probe\""), "3:1", "With bind = false nothing is bound"},
	{"on_conflict without bind", inVIP("bind = false\non_conflict = \"log\""), "3:1", "With bind = false nothing is bound"},
	{"announce without bind", inVIP("bind = false\nannounce {}"), "3:1", "With bind = false nothing is bound"},
	{"host_check without bind", inVIP("bind = false\nhost_check {}"), "3:1", "With bind = false nothing is bound"},

	// Addresses.
	{"a name", vipBlock("vip.example.com"), "1:5", "is not an IP address"},
	{"half an address", vipBlock("10.77.0"), "1:5", "is not an IP address"},
	{"leading zeros", vipBlock("10.77.0.010"), "1:5", "is not an IP address"},
	{"a bad prefix length", vipBlock("10.77.0.100/33"), "1:5", "is not an IP address"},
	{"no prefix length", vipBlock("10.77.0.100/"), "1:5", "is not an IP address"},
	{"IPv6 link-local with zone", vipBlock("fe80::1%eth0"), "1:5", "has a zone"},
	{"IPv6 with zone", vipBlock("fd00::1%eth0"), "1:5", "zone"},
	{"IPv6 unspecified", vipBlock("::"), "1:5", "unspecified"},
	{"IPv6 loopback", vipBlock("::1"), "1:5", "loopback"},
	{"IPv6 multicast", vipBlock("ff02::1"), "1:5", "multicast"},
	{"IPv6 anycast", vipBlock("fd00:77::/64"), "1:5", "routers of fd00:77::/64"},
	{"IPv6 prefix length 8", vipBlock("fd00::1/8"), "1:5", "Leave it out for /128"},
	{"IPv6 prefix length 129", vipBlock("fd00::1/129"), "1:5", "is not an IP address"},
	{"IPv4 in IPv6", vipBlock("::ffff:10.77.0.100"), "1:5", `Did you mean "10.77.0.100"?`},
	{"unspecified", vipBlock("0.0.0.0"), "1:5", "not of a host"},
	{"loopback", vipBlock("127.0.0.1"), "1:5", "loopback"},
	{"multicast", vipBlock("224.0.0.18"), "1:5", "multicast"},
	{"broadcast", vipBlock("255.255.255.255"), "1:5", "broadcast"},
	{"link-local", vipBlock("169.254.1.1"), "1:5", "link-local"},
	{"network address", vipBlock("10.77.0.0/24"), "1:5", "the network address of 10.77.0.0/24"},
	{"broadcast address", vipBlock("10.77.1.255/23"), "1:5", "the broadcast address of 10.77.0.0/23"},
	{"prefix length of no subnet", vipBlock("10.77.0.100/0"), "1:5", "which is no subnet"},
	{"twice", vipBlock("10.77.0.100") + "\n" + vipBlock("10.77.0.100"), "2:5", "at test.hcl:1:5"},
	{"twice, written differently", vipBlock("10.77.0.100/24") + "\n" + vipBlock("10.77.0.100/32"), "2:5", "at test.hcl:1:5"},
}

// atTop returns a configuration with a line at the top level.
func atTop(line string) string { return line + "\nvip \"10.77.0.100\" {}" }

func inConsul(line string) string { return atTop("consul {\n" + line + "\n}") }

func inHostCheck(line string) string { return atTop("host_check {\n" + line + "\n}") }

func inCheck(line string) string { return atTop("check \"a\" {\n" + line + "\n}") }

func inTCP(line string) string { return inCheck("tcp = \"127.0.0.1:80\"\n" + line) }

func inNamedHook(name, line string) string {
	return "hook \"" + name + "\" {\non = [\"fit\"]\ncommand = [\"true\"]\n" + line + "\n}\n" + vipBlock("10.77.0.100")
}

func inHook(line string) string { return inNamedHook("a", line) }

func inVIP(line string) string { return "vip \"10.77.0.100\" {\n" + line + "\n}" }

func inAnnounce(line string) string { return inVIP("announce {\n" + line + "\n}") }

func vipBlock(addr string) string { return `vip "` + addr + `" {}` }

func TestParseBad(t *testing.T) {
	for _, tt := range badSources {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := config.Parse("test.hcl", []byte(tt.src))
			require.Nil(t, cfg)
			var problems *config.Error
			require.ErrorAs(t, err, &problems)
			require.Len(t, problems.Diagnostics, 1, "%v", err)
			require.ErrorContains(t, err, "the configuration has 1 problem\n\ntest.hcl:"+tt.at+": Error: ")
			diag := problems.Diagnostics[0]
			require.Contains(t, diag.Summary+" "+diag.Detail, tt.says)
		})
	}
}

// Errors end up in logs.
func TestSecretsAreNotQuoted(t *testing.T) {
	for _, src := range []string{
		"consul {\n  token = \"c0ffee\"\n}\nvip \"10.77.0.100\" {}",
		"consul { token = \"c0ffee\" }\nvip \"10.77.0.100\" {}",
		"consul {\n  acl_token=c0ffee\n}\nvip \"10.77.0.100\" {}",
		"consul {\n  \"token\": \"c0ffee\",\n}\nvip \"10.77.0.100\" {}",
		"token = \"c0ffee",
	} {
		_, err := config.Parse("test.hcl", []byte(src))
		require.ErrorContains(t, err, "token")
		require.NotContains(t, err.Error(), "c0ffee")
	}
	_, err := config.Parse("test.hcl", []byte("consul {\n  token_file = \"/file\" 1\n}"))
	require.ErrorContains(t, err, "/file", "a file name is not a secret")
}
