// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

// ProxyPort is the port that a proxy binds for a listener's port: ports below
// 1024 are moved up by 10,000, because the proxy runs without the privilege to
// bind them; all others stay. The Service of the Gateway maps the listener's port
// to it.
func ProxyPort(port int32) int32 {
	if port < 1024 {
		return port + 10000
	}
	return port
}
