# Every line is wrong, except blank lines and braces.
log_level = inf
log_jso   = true

consul {
  session_ttl = 30
  prefix      = "/infra//vips"
  token       = "secret"
}

host_check {
  interval = 25
  misses   = 1
}

vip "10.77.0.100" {
  interfcae   = "eth0"
  dead_man    = "1s"
  on_conflict = "Exti"
  priority    = "many"
  takeover    = env("TEST_UNSET")

  anounce {}

  announce {
    interval = "10 s"
    jitter   = "-1s"
  }
}
