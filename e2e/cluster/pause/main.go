// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command pause is the first process of every pod: it does nothing, so that the
// pod's namespaces live as long as the pod, and it buries the pod's orphans.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for pid := 1; pid > 0; {
			// Signals coalesce: one SIGCHLD may stand for many children.
			pid, _ = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		}
	}
}
