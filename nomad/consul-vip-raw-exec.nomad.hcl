# consul-vip on every client of the cluster, as a plain process, for clients
# without Docker:
#
#   nomad job run consul-vip-raw-exec.nomad.hcl
#
# The binary is installed on the clients, they run as root, and they enable the
# driver:
#
#   plugin "raw_exec" {
#     config { enabled = true }
#   }

job "consul-vip" {
  type = "system"

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }

  # One host after the other, so that there is always one to take over.
  update {
    max_parallel = 1
    stagger      = "15s"
  }

  group "consul-vip" {
    # The agent exits on purpose when it loses a lock, and contends again when
    # it is restarted. "delay" never gives up.
    restart {
      mode     = "delay"
      delay    = "1s"
      attempts = 30
      interval = "1m"
    }

    task "consul-vip" {
      driver = "raw_exec"

      # The agent hands its addresses back within 4 seconds.
      kill_timeout = "10s"

      config {
        command = "/usr/local/bin/consul-vip"
        args    = ["agent", "-config=${NOMAD_TASK_DIR}/consul-vip.hcl"]
      }

      # With Consul ACLs: a token for this task, which Nomad passes on as
      # CONSUL_HTTP_TOKEN. It needs the rules of examples/acl-policy.hcl.
      # identity {
      #   name = "consul_default"
      #   aud  = ["consul.io"]
      # }

      template {
        destination = "local/consul-vip.hcl"
        change_mode = "restart"

        data = <<-EOT
          log_json = true

          vip "10.77.0.100" {
            # A client with the metadata vip_priority = "10" is preferred.
            priority = {{ or (env "meta.vip_priority") "100" }}
          }
        EOT
      }

      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
