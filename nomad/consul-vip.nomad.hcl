# consul-vip on every client of the cluster, as a container:
#
#   nomad job run -var image=registry.example.com/consul-vip:1.0.0 consul-vip.nomad.hcl
#
# Nomad's clients refuse the two capabilities unless their Docker plugin allows
# them; allow_caps replaces the default list, so name what other jobs use too:
#
#   plugin "docker" {
#     config { allow_caps = ["net_admin", "net_raw"] }
#   }

variable "image" {
  type        = string
  description = "The consul-vip image with its tag."
}

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
      driver = "docker"

      # The agent hands its addresses back within 4 seconds.
      kill_timeout = "10s"

      config {
        image = var.image
        args  = ["agent", "-config=${NOMAD_TASK_DIR}/consul-vip.hcl"]

        # It is the host's network whose addresses move.
        network_mode = "host"

        # Docker gives added capabilities to root only, so the container runs as
        # root, but with nothing except these two.
        cap_drop = ["all"]
        cap_add  = ["net_admin", "net_raw"]
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
