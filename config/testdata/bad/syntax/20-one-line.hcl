vip "10.77.0.101" {
  announce { interval = "10s"  jitter = "1s" }
}
