# The permissions of the agent in a Consul cluster with ACLs:
#
#   consul acl policy create -name consul-vip -rules @acl-policy.hcl
#   consul acl token create -description "consul-vip on h1" -policy-name consul-vip
#
# If the configuration sets another prefix or service, change it here too.

# The locks, the owners' records and the members, which the agent writes. The pins and
# drained nodes, which operators write and the agent reads. The release requests, which
# operators write and the agent deletes. The slash matters: without it the rule would
# also cover "consul-vip-backup".
key_prefix "consul-vip/" {
  policy = "write"
}

# A session holds a lock, and a session belongs to a node. The agent creates, renews and
# destroys the session of its own node. It reads the sessions of other nodes to find
# out which node holds an address. To restrict a token to one host, write
# session "h1" { policy = "write" } and session_prefix "" { policy = "read" }.
session_prefix "" {
  policy = "write"
}

# The agent registers itself as this service. The check of the service ends the session
# when the agent is killed or hangs.
service "consul-vip" {
  policy = "write"
}

# A check of the kind "service" reads the health of the service that it names. For each such
# check, add:
#
#   service "traefik" { policy = "read" }

# The agent reads the node name and the settings of the local Consul agent. It changes
# none of them, and needs no rule for nodes.
agent_prefix "" {
  policy = "read"
}
