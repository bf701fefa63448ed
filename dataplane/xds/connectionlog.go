// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"maps"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"

	"headgate.dev/headgate/dataplane/graph"
)

// connectionLogs writes the connections of a TCP or TLS listener when they end.
func connectionLogs(l *graph.Listener, route *graph.Route) []*accesslogv3.AccessLog {
	fields := map[string]string{
		"protocol": string(l.Protocol), "server_name": "%REQUESTED_SERVER_NAME%", "backend": "%UPSTREAM_CLUSTER%",
		"details": "%CONNECTION_TERMINATION_DETAILS%", "upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
		"bytes_received": "%BYTES_RECEIVED%", "bytes_sent": "%BYTES_SENT%",
	}
	if route != nil {
		fields["route"] = routeName(route)
	}
	return transportLogs(l, fields)
}

// sessionLogs writes the sessions of a UDP listener when they end. They say neither route nor
// backend: these would make another listener of every change of them.
func sessionLogs(l *graph.Listener) []*accesslogv3.AccessLog {
	counted := func(name string) string { return "%DYNAMIC_METADATA(udp.proxy.session:" + name + ")%" }
	return transportLogs(l, map[string]string{
		"protocol":       string(l.Protocol),
		"bytes_received": counted("bytes_received"), "bytes_sent": counted("bytes_sent"),
		"datagrams_received": counted("datagrams_received"), "datagrams_sent": counted("datagrams_sent"),
	})
}

// transportLogs adds what connections and sessions have in common.
func transportLogs(l *graph.Listener, fields map[string]string) []*accesslogv3.AccessLog {
	gw := l.Gateway
	maps.Copy(fields, map[string]string{
		"time": "%START_TIME%", "gateway": gw.Key.String(), "listener": l.ID(), "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
		"duration_ms": "%DURATION%", "flags": "%RESPONSE_FLAGS%", "upstream": "%UPSTREAM_HOST%",
		"pod": endpointField("pod"), "version": endpointField("version"),
	})
	return accessLogs(fields, gw.Proxy.AccessLog)
}
