package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/consul-vip/consul-vip/config"
)

// Load reads files and directories, and completes the configuration with defaults.
func ExampleLoad() {
	dir, err := os.MkdirTemp("", "consul-vip")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "consul-vip.hcl")
	err = os.WriteFile(file, []byte(`
		vip "10.77.0.100" {
			interface = "eth0"
			priority  = 10
		}
		vip "10.77.0.101" {}
	`), 0o600)
	if err != nil {
		fmt.Println(err)
		return
	}

	cfg, err := config.Load(nil, file)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("session TTL", cfg.Consul.SessionTTL)
	for _, vip := range cfg.VIPs {
		fmt.Println(vip.Prefix, "priority", vip.Priority, "dead man", vip.DeadMan)
	}
	// Output:
	// session TTL 30s
	// 10.77.0.100/32 priority 10 dead man 7s
	// 10.77.0.101/32 priority 100 dead man 7s
}

// An Error shows each problem with its file, line and column.
func ExampleError() {
	src := `
vip "10.77.0.100" {
  interfcae = "eth0"
  dead_man  = 5
}
`
	_, err := config.Parse("consul-vip.hcl", []byte(src))
	fmt.Println(err)
	// Output:
	// the configuration has 2 problems
	//
	// consul-vip.hcl:3:3: Error: Unsupported argument
	//
	//   on consul-vip.hcl line 3, in vip "10.77.0.100":
	//    3:   interfcae = "eth0"
	//
	// An argument named "interfcae" is not expected here. Did you mean "interface"?
	//
	// consul-vip.hcl:4:15: Error: Invalid dead_man
	//
	//   on consul-vip.hcl line 4, in vip "10.77.0.100":
	//    4:   dead_man  = 5
	//
	// "5" has no unit. Did you mean "5s"?
}

// The problems can also be read one by one.
func ExampleError_diagnostics() {
	_, err := config.Parse("consul-vip.hcl", []byte(`vip "10.77.0.0/24" {}`))
	var problems *config.Error
	if !errors.As(err, &problems) {
		return
	}
	for _, problem := range problems.Diagnostics {
		at := problem.Subject
		fmt.Printf("%s, line %d, column %d: %s\n", at.Filename, at.Start.Line, at.Start.Column, problem.Detail)
	}
	// Output:
	// consul-vip.hcl, line 1, column 5: "10.77.0.0/24" is the network address of 10.77.0.0/24, not a host address.
}
