# What "consul-vip status" needs, and nothing more: it only reads.
#
#   consul acl policy create -name consul-vip-status -rules @status-policy.hcl

# The owners' records. "list" is "read" for whole prefixes, which servers with
# acl.enable_key_list_policy insist on.
key_prefix "consul-vip/" {
  policy = "list"
}

# To tell which node holds a lock that another program took.
session_prefix "" {
  policy = "read"
}

# The commands that move addresses write a key each. Whoever may use them needs one
# of these besides:
#
#   key "consul-vip/10.77.0.100/pin"     { policy = "write" }  # move, unpin, release -hold
#   key "consul-vip/10.77.0.100/release" { policy = "write" }  # release
#   key_prefix "consul-vip/.drain/"      { policy = "write" }  # drain, undrain
#   agent_prefix ""                      { policy = "read" }   # these without -node
#
# or, for all of them, key_prefix "consul-vip/" { policy = "write" }.
