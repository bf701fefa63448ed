// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package containerd pins the container runtime of the test node: the daemon,
// the shim that runc is called through, and ctr, which imports images.
package containerd

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
	_ "github.com/containerd/containerd/v2/cmd/ctr"
)
