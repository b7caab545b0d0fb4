# Runs a service with an address that floats with it: wherever Nomad places the group, a
# sidecar binds the address and announces it, without Consul. There is one instance of the
# group; Nomad alone decides where.
#
#   nomad job run -var 'ip=10.77.0.100/24' -var 'command=/usr/bin/python3' \
#     -var 'args=["-m", "http.server", "80"]' announce.nomad.hcl
#
# When the group moves, the new sidecar waits until the old one has let the address go. After
# the death of a host the address comes back as soon as Nomad has noticed, which takes some
# ten seconds; the agent's job files take a quarter of a second.
#
# Each client needs the binary. Its Nomad must run as root and enable the driver:
#
#   plugin "raw_exec" {
#     config { enabled = true }
#   }

variable "ip" {
  type        = string
  description = "The floating address. A prefix length may follow, /32 is the default."
  default     = "10.77.0.100"
}

variable "command" {
  type        = string
  description = "The program of the service. It listens on all addresses of the host."
  default     = "/usr/bin/python3"
}

variable "args" {
  type        = list(string)
  description = "The arguments of the program."
  default     = ["-m", "http.server", "8080"]
}

variable "binary" {
  type        = string
  description = "Where consul-vip is installed on the clients."
  default     = "/usr/local/bin/consul-vip"
}

job "floating" {
  type = "service"

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }

  group "service" {
    count = 1

    # The sidecar exits with 5 when another station has the address. "delay" starts it again
    # without a limit: it asks first, and disturbs nobody.
    restart {
      mode     = "delay"
      delay    = "1s"
      attempts = 30
      interval = "1m"
    }

    task "service" {
      driver = "raw_exec"

      config {
        command = var.command
        args    = var.args
      }

      resources {
        cpu    = 100
        memory = 64
      }
    }

    task "address" {
      driver = "raw_exec"

      # It begins when the service runs.
      lifecycle {
        hook    = "poststart"
        sidecar = true
      }

      config {
        command = var.binary
        args    = ["announce", "-ip=${var.ip}", "-wait=30s", "-log-json"]
      }

      resources {
        cpu    = 50
        memory = 32
      }
    }
  }
}
