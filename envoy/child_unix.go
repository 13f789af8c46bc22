//go:build unix && !linux

package envoy

import "syscall"

// childAttr puts the child into its own process group, so that Ctrl-C in a terminal reaches only us
// and the child can be drained first. There is no parent-death signal here: a killed parent leaves
// its Envoy behind.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
