# A Floating IP of Hetzner Cloud. The agent holds the lock and runs the hook; the network of
# the provider sends the address's traffic to the server that the hook assigns it to. README.md
# in this directory says what each server needs.

vip "203.0.113.10" {
  # Do not touch interfaces or the wire: each server has the address all the time.
  bind = false
}

hook "hetzner" {
  on      = ["acquired", "released", "lost", "conflict"]
  command = ["/etc/consul-vip/hetzner.sh"]

  # The script gives up after 25 s, with a message. Then the agent runs it again.
  timeout = "30s"

  vips = ["203.0.113.10"]
}
