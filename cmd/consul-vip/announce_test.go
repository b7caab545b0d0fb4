package main

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/announce"
)

// announceOptions are the options of a command line.
func announceOptions(args ...string) (announce.Options, error) {
	f := (&announceCommand{}).flags(&bytes.Buffer{})
	if err := parse(f.FlagSet, args); err != nil {
		return announce.Options{}, err
	}
	return f.options(&bytes.Buffer{})
}

func TestAnnounceMistakesNameTheFlag(t *testing.T) {
	for flag, mistakes := range map[string][][]string{
		"-ip": {
			nil, {"-ip=10.77.0"}, {"-ip=224.0.0.1"}, {"-ip=10.77.0.0/24"}, {"-ip=fe80::1"}, {"-ip=::ffff:10.77.0.1"}, {"-ip=fd77::1%eth0"},
		},
		"-mac":                    {{"-ip=10.77.0.1", "-mac=x"}, {"-ip=10.77.0.1", "-mac=ff:ff:ff:ff:ff:ff"}, {"-ip=10.77.0.1", "-mac=00:00:00:00:00:00"}},
		"-target":                 {{"-ip=10.77.0.1", "-target=01:00:5e:00:00:01"}},
		"-interval":               {{"-ip=10.77.0.1", "-interval=0"}, {"-interval=x"}, {"-interval=-1s"}},
		"-jitter":                 {{"-ip=10.77.0.1", "-interval=1s", "-jitter=2s"}},
		"-delay":                  {{"-delay=-1s"}},
		"-count":                  {{"-ip=10.77.0.1", "-count=-1"}, {"-count=x"}},
		"-watch":                  {{"-ip=10.77.0.1", "-watch=perhaps"}, {"-ip=10.77.0.1", "-watch="}},
		"-arp-request":            {{"-ip=fd77::1", "-arp-request"}},
		"-arp-reply":              {{"-ip=fd77::1", "-arp-reply"}},
		"-die-if-ip-exists":       {{"-ip=10.77.0.1", "-unmanaged-ip", "-die-if-ip-exists"}},
		"-remove-pre-existing-ip": {{"-ip=10.77.0.1", "-unmanaged-ip", "-remove-pre-existing-ip"}, {"-ip=10.77.0.1", "-die-if-ip-exists", "-remove-pre-existing-ip"}},
		"-log-level":              {{"-ip=10.77.0.1", "-log-level=loud"}},
		"no arguments":            {{"-ip=10.77.0.1", "eth0"}},
	} {
		for _, args := range mistakes {
			_, err := announceOptions(args...)
			require.Equal(t, exitUsage, exitCode(err), "%q", args)
			require.ErrorContains(t, err, flag, "%q", args)
		}
	}
}

func TestAnnounceOptions(t *testing.T) {
	o, err := announceOptions("-ip=10.77.0.1/24")
	require.NoError(t, err)
	require.Equal(t, "10.77.0.1/24", o.Prefix.String())
	require.Equal(t, announcer.Schedule{Interval: 10 * time.Second, Jitter: time.Second}, o.Schedule)
	require.Equal(t, announce.WatchFail, o.Watch)
	require.Equal(t, announcer.RequestAndReply, o.Form)

	o, err = announceOptions("-ip", "fd77::1", "-interval", "2", "-delay", "1", "-watch", "quit", "-target", "02:00:00:00:00:01")
	require.NoError(t, err)
	require.Equal(t, "fd77::1/128", o.Prefix.String())
	require.Equal(t, announcer.Schedule{Interval: 2 * time.Second, Jitter: 200 * time.Millisecond}, o.Schedule)
	require.Equal(t, time.Second, o.Delay)
	require.Equal(t, net.HardwareAddr{2, 0, 0, 0, 0, 1}, o.Target)

	for args, want := range map[string]announcer.Form{"-arp-request": announcer.RequestOnly, "-arp-reply": announcer.ReplyOnly} {
		o, err = announceOptions("-ip=10.77.0.1", args)
		require.NoError(t, err)
		require.Equal(t, want, o.Form)
	}
	o, err = announceOptions("-ip=10.77.0.1", "-arp-request", "-arp-reply")
	require.NoError(t, err)
	require.Equal(t, announcer.RequestAndReply, o.Form)

	o, err = announceOptions("-ip=10.77.0.1", "-once", "-delay=1h", "-count=7")
	require.NoError(t, err)
	require.Equal(t, 1, o.Count)
	require.Zero(t, o.Delay)
	require.Zero(t, o.Schedule.Jitter)
	require.Equal(t, announce.WatchNo, o.Watch)
}

func TestAnnounceOnNoInterface(t *testing.T) {
	needsRaw(t)
	var stderr bytes.Buffer
	args := []string{"announce", "-ip=10.77.0.1", "-unmanaged-ip", "-interface=none0"}
	require.Equal(t, exitUsage, run(args, &bytes.Buffer{}, &stderr), stderr.String())
	require.Contains(t, stderr.String(), "-interface")
}
