# The permissions of "consul-vip status", which only reads:
#
#   consul acl policy create -name consul-vip-status -rules @status-policy.hcl

# The owners' records. "list" allows to read all keys of a prefix at once; servers with
# acl.enable_key_list_policy require it.
key_prefix "consul-vip/" {
  policy = "list"
}

# The sessions, to show which node holds a lock that another program took.
session_prefix "" {
  policy = "read"
}

# Each command that moves an address writes one key. For these commands, add one of these
# rules:
#
#   key "consul-vip/10.77.0.100/pin"     { policy = "write" }  # move, unpin, release -hold
#   key "consul-vip/10.77.0.100/release" { policy = "write" }  # release
#   key_prefix "consul-vip/.drain/"      { policy = "write" }  # drain, undrain
#   agent_prefix ""                      { policy = "read" }   # drain and undrain without -node
#
# or, for all commands, key_prefix "consul-vip/" { policy = "write" }.
