// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package echo pins the echo server of the Gateway API conformance suite.
package echo

import _ "sigs.k8s.io/gateway-api-conformance-images/echo-basic"
