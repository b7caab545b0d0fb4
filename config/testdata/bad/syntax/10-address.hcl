vip 10.77.0.100 {
  interface = "eth0"
}

vips "10.77.0.102" {}
