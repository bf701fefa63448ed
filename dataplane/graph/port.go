// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

// Ports of a proxy's pod that are not a listener's.
const (
	AdminPort = 19000
	StatsPort = 19001
	DrainPort = 19002
)

// privileged is the first port that a process without privileges may bind.
const privileged = 1024

// ProxyPort is the port that a proxy binds for a listener's port: ports below
// 1024 are moved up by 10,000, because the proxy runs without the privilege to
// bind them; all others stay. The Service of the Gateway maps the listener's port
// to it.
func ProxyPort(port int32) int32 {
	if port < privileged {
		return port + 10000
	}
	return port
}

// portProblems says why a proxy cannot bind a port beside the other ports of its Gateway.
func portProblems(port int32, all map[int32]bool) []Problem {
	switch {
	case port < 1 || port > 65535:
		return []Problem{portInvalid(port)}
	case port >= AdminPort && port <= DrainPort:
		return []Problem{portReserved(port)}
	}
	// The low port wins whatever the order, so that adding a listener never
	// depends on where it stands in the list.
	if low := port - 10000; low >= 1 && low < privileged && all[low] {
		return []Problem{portTaken(port, low)}
	}
	return nil
}
