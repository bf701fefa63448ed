// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"slices"

	"headgate.dev/headgate/e2e/cluster/internal/layout"
	"headgate.dev/headgate/e2e/cluster/internal/process"
)

// Status prints what runs, and returns an error when the node is not healthy.
func (n Node) Status(ctx context.Context) error {
	if err := n.checkOwner(); err != nil {
		return err
	}
	group, err := process.FindGroup(layout.Cgroup)
	if err != nil {
		return err
	}
	t := n.table(group)
	for _, c := range slices.Concat(components(n.Layout, binaries{Self: n.self()}, nil)...) {
		switch record, ok := t.Get(c.Name); {
		case !ok:
			fmt.Fprintf(n.Out, "%-24s not started\n", c.Name)
		case !record.Alive():
			fmt.Fprintf(n.Out, "%-24s ended (was pid %d); log: %s\n", c.Name, record.PID, t.LogFile(c.Name))
		default:
			fmt.Fprintf(n.Out, "%-24s pid %d\n", c.Name, record.PID)
		}
	}
	fmt.Fprintf(n.Out, "%-24s %d\n", "processes with pods", len(group.Members()))
	if err := n.healthy(ctx); err != nil {
		return err
	}
	fmt.Fprintf(n.Out, "healthy; KUBECONFIG=%s\n", n.Layout.Kubeconfig())
	return nil
}
