# Runs consul-vip with its addresses and its Consul token in a Nomad variable, so that an
# operator can change them without the job file:
#
#   nomad var put nomad/jobs/consul-vip vips=10.77.0.100,10.77.0.101 consul_token=...
#   nomad job run consul-vip-variables.nomad.hcl
#   nomad var put -force nomad/jobs/consul-vip vips=10.77.0.100 consul_token=...
#
# The tasks wait until the variable exists. All tasks of the job can read it; anybody else
# needs a permission. The token needs the rules of acl-policy.hcl, which is among
# consul-vip's examples. If Consul has no ACLs, leave the token out.
#
# This job uses the driver raw_exec. With Docker the blocks "template" are the same.

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
      driver = "raw_exec"

      # The agent transfers its addresses and exits within 4 seconds.
      kill_timeout = "10s"

      config {
        command = var.binary
        args    = ["agent", "-config=${NOMAD_TASK_DIR}/consul-vip.hcl"]
      }

      # When the variable changes, every instance applies it within "splay", 5 s by
      # default. Unchanged addresses do not move.
      template {
        destination   = "local/consul-vip.hcl"
        change_mode   = "signal"
        change_signal = "SIGHUP" # consul-vip reads its configuration again

        data = <<-EOT
          log_level = "${var.log_level}"
          log_json  = true

          consul {
            prefix     = "${var.prefix}"
            token_file = "{{ env "NOMAD_SECRETS_DIR" }}/consul_token"
          }

          {{ with nomadVar (printf "nomad/jobs/%s" (env "NOMAD_JOB_NAME")) -}}
          {{ range .vips.Value | split "," -}}
          vip "{{ . }}" {
            # To prefer a client, set vip_priority = "10" in its metadata.
            priority = {{ or (env "meta.vip_priority") "100" }}
          }
          {{ end -}}
          {{ end -}}
        EOT
      }

      template {
        destination = "secrets/consul_token"
        change_mode = "noop" # consul-vip reads the file for every request
        perms       = "600"

        data = <<-EOT
          {{ with nomadVar (printf "nomad/jobs/%s" (env "NOMAD_JOB_NAME")) -}}
          {{ .consul_token }}
          {{- end }}
        EOT
      }

      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
