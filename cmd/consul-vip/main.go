// Command consul-vip holds floating IP addresses on the nodes of a Consul
// cluster: whoever has an address's lock in Consul binds and announces it.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }
