// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

// The places in every filter chain that do nothing until a route has settings for them.
const (
	// routeFilters runs whole filters for one route. It is a composite filter, because
	// most filters cannot be configured anew by a route.
	routeFilters = "headgate.route"
	// sessionFilter keeps a client on its endpoint.
	sessionFilter = "envoy.filters.http.stateful_session"
)
