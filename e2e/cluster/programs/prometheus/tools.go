// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package prometheus pins the Prometheus server that analysis is tested against.
package prometheus

import _ "github.com/prometheus/prometheus/cmd/prometheus"
