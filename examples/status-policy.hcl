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
