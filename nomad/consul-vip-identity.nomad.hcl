# Runs consul-vip with a Consul that has ACLs. Nomad gives the task a signed identity, and
# Consul exchanges it for an ACL token that is valid while the allocation lives. Nobody
# has to store a token.
#
# Set up Consul to trust Nomad, once per cluster:
#
#   nomad setup consul -jwks-url=https://nomad.example.com:4646/.well-known/jwks.json
#   consul acl policy create -name=consul-vip -rules=@acl-policy.hcl
#   consul acl role create -name=consul-vip -policy-name=consul-vip
#   consul acl binding-rule create -method=nomad-workloads -bind-type=role \
#     -bind-name=consul-vip -selector='value.nomad_job_id == "consul-vip"'
#
# acl-policy.hcl is among consul-vip's examples. Then run the job:
#
#   nomad job run -var 'vips=["10.77.0.100"]' consul-vip-identity.nomad.hcl
#
# This job uses the driver raw_exec. With Docker the blocks "consul", "identity" and
# "template" are the same.

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

      # The identity's name selects the Consul cluster "default". Nomad writes the token to
      # the file secrets/consul_token and sets CONSUL_HTTP_TOKEN.
      consul {}

      identity {
        name = "consul_default"
        aud  = ["consul.io"]
        ttl  = "1h"
      }

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
