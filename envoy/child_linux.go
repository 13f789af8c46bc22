package envoy

import "syscall"

// childAttr puts the child into its own process group, so that Ctrl-C in a terminal reaches only us
// and the child can be drained first, and lets the kernel kill it when we die, however that
// happens.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
