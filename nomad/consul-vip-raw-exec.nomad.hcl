# consul-vip on every client of the cluster, as a plain process, for clients
# without Docker:
#
#   nomad job run -var 'vips=["10.77.0.100"]' consul-vip-raw-exec.nomad.hcl
#
# The binary is installed on the clients. Their Nomad runs as root and enables the
# driver:
#
#   plugin "raw_exec" {
#     config { enabled = true }
#   }
#
# Each client has a Consul agent, which consul-vip finds at 127.0.0.1:8500. With
# Consul ACLs see consul-vip-identity.nomad.hcl.

variable "vips" {
  type        = list(string)
  description = "The floating addresses. A prefix length may follow, /32 is the default."
  default     = ["10.77.0.100"]
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
  # One instance on each client. To have it on some only, add a constraint.
  type = "system"

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }

  # One host after the other, so that there is always one to take over. A new
  # instance is ready to within two seconds. Nomad before 1.11 does not look at
  # the health of a system job; it waits for "stagger" instead.
  update {
    max_parallel     = 1
    min_healthy_time = "5s"
    stagger          = "15s"
  }

  group "consul-vip" {
    # The agent exits on purpose when it loses a lock (exit code 4) or another
    # machine claims an address (5), and contends again when it is restarted.
    # "delay" never gives up; "fail" would end the allocation for good.
    restart {
      mode     = "delay"
      delay    = "1s"
      attempts = 30
      interval = "1m"
    }

    task "consul-vip" {
      driver = "raw_exec"

      # The agent hands its addresses over, and is gone within 4 seconds.
      kill_timeout = "10s"

      config {
        command = var.binary
        args    = ["agent", "-config=${NOMAD_TASK_DIR}/consul-vip.hcl"]
      }

      # Two languages meet in "data". Nomad fills in ${var.NAME} when the job is
      # submitted, and {{ ... }} on the client: {{ env "NAME" }} knows the
      # client's attributes ("attr.unique.hostname"), its metadata ("meta.rack") and
      # the environment of the task ("NOMAD_DC"). The rest is consul-vip's
      # configuration, whose own env("NOMAD_DC") reads the environment of the task.
      template {
        destination   = "local/consul-vip.hcl"
        change_mode   = "signal"
        change_signal = "SIGHUP" # which has consul-vip read it again

        data = <<-EOT
          log_level = "${var.log_level}"
          log_json  = true

          consul {
            prefix = "${var.prefix}"
          }

          %{for vip in var.vips~}
          vip "${vip}" {
            # A client with the metadata vip_priority = "10" is preferred.
            priority = {{ or (env "meta.vip_priority") "100" }}
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
