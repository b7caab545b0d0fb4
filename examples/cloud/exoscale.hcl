# An Elastic IP of Exoscale. The agent holds the lock and runs the hook; the network of
# the provider sends the address's traffic to the instance that the hook attaches it to. README.md
# in this directory says what each instance needs.

vip "203.0.113.10" {
  # Do not touch interfaces or the wire: each instance has the address all the time.
  bind = false
}

hook "exoscale" {
  on      = ["acquired", "released", "lost", "conflict"]
  command = ["/etc/consul-vip/exoscale.sh"]

  # The script gives up after 25 s, with a message. Then the agent runs it again.
  timeout = "30s"

  vips = ["203.0.113.10"]
}
