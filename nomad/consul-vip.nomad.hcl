# Runs consul-vip on every client of the cluster, in a container. The Dockerfile builds
# the image.
#
#   nomad job run -var image=registry.example.com/consul-vip:1.0.0 \
#     -var 'vips=["10.77.0.100"]' consul-vip.nomad.hcl
#
# The Docker plugin of each client must allow the two capabilities. allow_caps replaces
# the default list, so also add the capabilities that other jobs use:
#
#   plugin "docker" {
#     config { allow_caps = ["net_admin", "net_raw"] }
#   }
#
# Each client needs a Consul agent; consul-vip expects it at 127.0.0.1:8500. For a Consul
# with ACLs see consul-vip-identity.nomad.hcl.

variable "image" {
  type        = string
  description = "The consul-vip image with its tag."
}

variable "vips" {
  type        = list(string)
  description = "The floating addresses. A prefix length may follow, /32 is the default."
  default     = ["10.77.0.100"]
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
  # One instance on each client. To run it on some clients only, add a constraint.
  type = "system"

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }

  # One host after the other, so that another host can always take over. A new instance
  # can take over within two seconds. Nomad before 1.11 ignores the health of a system
  # job and waits for "stagger" instead.
  update {
    max_parallel     = 1
    min_healthy_time = "5s"
    stagger          = "15s"
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
      driver = "docker"

      # The agent transfers its addresses and exits within 4 seconds.
      kill_timeout = "10s"

      config {
        image = var.image
        args  = ["agent", "-config=${NOMAD_TASK_DIR}/consul-vip.hcl"]

        # The addresses move between the networks of the hosts.
        network_mode = "host"

        # Docker gives added capabilities to root only. So the container runs as root,
        # with no capabilities except these two.
        cap_drop = ["all"]
        cap_add  = ["net_admin", "net_raw"]
      }

      # "data" is a configuration of consul-vip with two template languages in it. Nomad
      # replaces ${var.NAME} when the job is submitted, and {{ ... }} on the client.
      # {{ env "NAME" }} reads the client's attributes ("attr.unique.hostname"), its
      # metadata ("meta.rack") and the environment of the task ("NOMAD_DC"). consul-vip's
      # own env("NOMAD_DC") also reads the environment of the task.
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

          %{for vip in var.vips~}
          vip "${vip}" {
            # To prefer a client, set vip_priority = "10" in its metadata.
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
