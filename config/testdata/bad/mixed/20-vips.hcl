# The other file already has these keys.
log_level = "info"

consul {
  check_ttl = "1s"
}

vip "10.77.0.100/24" {
  priority = 1.5
  priority = 2
}

vip "10.77.0.101" {
  takeover = "strict"

  host_check {
    misses = 4
  }
}

vip "fe80::100" {}
