# Runs Traefik and consul-vip on every client of the cluster. A floating address is only where
# Traefik is healthy:
#
#   nomad job run -var 'vips=["10.77.0.100"]' consul-vip-traefik.nomad.hcl
#
# The two are groups of their own: an update or a restart of one does not touch the other. If
# Traefik has a job already, leave the group "traefik" out, and take the service and
# "shutdown_delay" over into that job.
#
# consul-vip asks the Consul agent of its host for the health of the service, not Traefik
# itself. So it learns from Nomad that Traefik is about to end: Nomad takes the service out of
# Consul, the address moves to a host where Traefik is healthy, and Nomad ends Traefik after
# "shutdown_delay". Nomad also takes the service out as soon as Traefik has exited by itself. If
# Traefik is not in Consul, check it by http = "http://127.0.0.1:8082/ping".
#
# Traefik listens on all addresses of the host, also on one that comes later, so
# net.ipv4.ip_nonlocal_bind stays 0.
#
# Each client needs both binaries and a Consul agent, at 127.0.0.1:8500. Its Nomad must run as
# root and enable the driver:
#
#   plugin "raw_exec" {
#     config { enabled = true }
#   }
#
# With Docker, the task "consul-vip" has the config of consul-vip.nomad.hcl, and Traefik this
# one:
#
#   image        = "traefik:v3"
#   args         = var.traefik_args
#   network_mode = "host"
#
# For a Consul with ACLs, add to the task "consul-vip" what consul-vip-identity.nomad.hcl has,
# and to its policy: service "traefik" { policy = "read" }

variable "vips" {
  type        = list(string)
  description = "The floating addresses. A prefix length may follow, /32 is the default."
  default     = ["10.77.0.100"]
}

variable "when_none_fit" {
  type        = string
  description = "If Traefik is healthy nowhere: keep the address where it is, or release it."
  default     = "keep"
}

variable "traefik" {
  type        = string
  description = "Where Traefik is installed on the clients."
  default     = "/usr/local/bin/traefik"
}

variable "traefik_args" {
  type        = list(string)
  description = "The arguments of Traefik. It listens on all addresses of the host, port 80, and answers /ping on port 8082."
  default = [
    "--entryPoints.web.address=:80",
    "--entryPoints.ping.address=:8082",
    "--ping.entryPoint=ping",
    "--providers.consulCatalog.exposedByDefault=false", # routes are tags of services in Consul
  ]
}

variable "binary" {
  type        = string
  description = "Where consul-vip is installed on the clients."
  default     = "/usr/local/bin/consul-vip"
}

variable "prefix" {
  type        = string
  description = "The folder in Consul's KV store, as in the ACL policy."
  default     = "consul-vip"
}

variable "log_level" {
  type        = string
  description = "trace, debug, info, warn or error."
  default     = "info"
}

job "consul-vip" {
  # One instance of each on each client. To run them on some clients only, add a constraint.
  type = "system"

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }

  # One host after the other, so that another host can always take over. Nomad before 1.11
  # ignores the health of a system job and waits for "stagger" instead: long enough for
  # Traefik to end, start and be healthy.
  update {
    max_parallel     = 1
    min_healthy_time = "5s"
    stagger          = "30s"
  }

  group "traefik" {
    # "delay" starts Traefik again without a limit; "fail" would end the allocation for good.
    restart {
      mode     = "delay"
      delay    = "1s"
      attempts = 30
      interval = "1m"
    }

    network {
      port "http" {
        static = 80
      }
      port "ping" {
        static = 8082
      }
    }

    task "traefik" {
      driver = "raw_exec"

      # Nomad takes the service out of Consul, waits, and then ends Traefik. consul-vip asks
      # every second, and a planned move takes milliseconds.
      shutdown_delay = "5s"

      # Traefik finishes open requests within 10 seconds.
      kill_timeout = "15s"

      config {
        command = var.traefik
        args    = var.traefik_args
      }

      service {
        name = "traefik"
        port = "http"

        check {
          name     = "ping"
          type     = "http"
          port     = "ping"
          path     = "/ping"
          interval = "2s"
          timeout  = "1s"
        }
      }

      resources {
        cpu    = 200
        memory = 128
      }
    }
  }

  group "consul-vip" {
    # The agent exits on purpose when it loses a lock (exit code 4) or another machine
    # claims an address (5). After the restart it contends again. "delay" restarts it
    # without a limit; "fail" would end the allocation for good.
    restart {
      mode     = "delay"
      delay    = "1s"
      attempts = 30
      interval = "1m"
    }

    task "consul-vip" {
      driver = "raw_exec"

      # The agent transfers its addresses and exits within 4 seconds.
      kill_timeout = "10s"

      config {
        command = var.binary
        args    = ["agent", "-config=${NOMAD_TASK_DIR}/consul-vip.hcl"]
      }

      template {
        destination   = "local/consul-vip.hcl"
        change_mode   = "signal"
        change_signal = "SIGHUP" # consul-vip reads its configuration again

        data = <<-EOT
          log_level = "${var.log_level}"
          log_json  = true

          consul {
            prefix = "${var.prefix}"
          }

          # As this host's Consul agent says, on which Nomad registers Traefik.
          check "traefik" {
            service = "traefik"
          }

          %{for vip in var.vips~}
          vip "${vip}" {
            # To prefer a client, set vip_priority = "10" in its metadata.
            priority      = {{ or (env "meta.vip_priority") "100" }}
            require       = ["traefik"]
            when_none_fit = "${var.when_none_fit}"
          }
          %{endfor~}
        EOT
      }

      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
