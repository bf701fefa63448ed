// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package served

import (
	"cmp"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	udpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/udp/udp_proxy/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"headgate.dev/headgate/dataplane/xds"
)

// Row is one line of the route table: which requests, and what becomes of them.
type Row struct {
	// Listener is Envoy's listener, or its filter chain where it has several.
	Listener string `json:"listener"`
	// ServerNames are those of the TLS handshake; none: every name.
	ServerNames []string `json:"serverNames,omitempty"`
	// Host is the hostname of the virtual host, "*" for every host. It is empty for
	// connections that are not HTTP.
	Host string `json:"host,omitempty"`
	// Match is the condition on the request, in the order in which rows are tried.
	Match string `json:"match"`
	// Route is Kind/namespace/name, or empty for rows that no route asked for. Rule
	// is the index of its rule and of the match in it, as in 0/1.
	Route string `json:"route,omitempty"`
	Rule  string `json:"rule,omitempty"`
	// Backends have the weights of this moment, those of a running release too.
	Backends []Backend `json:"backends,omitempty"`
	// Answer is what the proxy answers by itself, in place of Backends.
	Answer string `json:"answer,omitempty"`
	// Filters are what else happens to the request, in sentences.
	Filters []string `json:"filters,omitempty"`

	// config is Envoy's configuration of the row without runtime values.
	config string
}

// Backend is one share of a row's traffic.
type Backend struct {
	// Cluster is namespace/service/port[/protocol].
	Cluster string `json:"cluster"`
	// Weight is the share in parts of Total.
	Weight uint64 `json:"weight"`
	Total  uint64 `json:"total"`
}

// Percent is the share of the traffic.
func (b Backend) Percent() float64 {
	if b.Total == 0 {
		return 0
	}
	return 100 * float64(b.Weight) / float64(b.Total)
}

// Rows gives the route table in the order in which the proxy tries it: by
// listener, by hostname, and below it as it stands.
func (c *Config) Rows() []Row {
	var rows []Row
	for _, l := range c.Listeners {
		chains := slices.Clone(l.FilterChains)
		if l.DefaultFilterChain != nil {
			chains = append(chains, l.DefaultFilterChain)
		}
		for _, chain := range chains {
			rows = append(rows, c.chainRows(l, chain)...)
		}
		for _, f := range l.ListenerFilters {
			rows = append(rows, udpRows(l, f)...)
		}
	}
	return rows
}

func (c *Config) chainRows(l *listenerv3.Listener, chain *listenerv3.FilterChain) []Row {
	base := Row{Listener: l.Name, ServerNames: chain.GetFilterChainMatch().GetServerNames()}
	if chain.Name != "" {
		base.Listener = chain.Name
	}
	var rows []Row
	for _, f := range chain.Filters {
		switch config := unpack(f.GetTypedConfig()).(type) {
		case *hcmv3.HttpConnectionManager:
			tables := c.Tables[cmp.Or(config.GetRds().GetRouteConfigName(), l.Name)]
			if inline := config.GetRouteConfig(); inline != nil {
				tables = append(slices.Clone(tables), inline)
			}
			rows = append(rows, c.tableRows(base, tables)...)
		case *tcpproxyv3.TcpProxy:
			rows = append(rows, tcpRow(base, config))
		}
	}
	return rows
}

func unpack(packed *anypb.Any) any {
	m, err := anypb.UnmarshalNew(packed, unmarshalOptions())
	if err != nil {
		return nil
	}
	return m
}

func (c *Config) tableRows(base Row, tables []*routev3.RouteConfiguration) []Row {
	var hosts []*routev3.VirtualHost
	for _, table := range tables {
		hosts = append(hosts, table.VirtualHosts...)
	}
	slices.SortStableFunc(hosts, func(a, b *routev3.VirtualHost) int { return compareHosts(hostOf(a), hostOf(b)) })
	var rows []Row
	for _, host := range hosts {
		row := base
		row.Host = hostOf(host)
		routes := host.Routes
		if len(routes) > 0 && xds.IsMisdirected(routes[0]) {
			if !xds.Owns(base.Listener, routes[0]) {
				row.Match, row.Answer = "every request", "421"
				rows = append(rows, row)
				continue
			}
			routes = routes[1:]
		}
		if n := len(routes); n > 0 && xds.IsUnmatched(routes[n-1]) {
			routes = routes[:n-1]
		}
		if len(routes) == 0 {
			row.Match, row.Answer = "every request", "404"
			rows = append(rows, row)
			continue
		}
		rows = append(rows, c.hostRows(row, routes)...)
	}
	return rows
}

func hostOf(host *routev3.VirtualHost) string { return strings.Join(host.Domains, ", ") }

// compareHosts puts names before wildcards, and every host last.
func compareHosts(a, b string) int {
	rank := func(host string) int {
		switch {
		case host == "*":
			return 2
		case strings.HasPrefix(host, "*"):
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
}

// hostRows joins the Envoy routes that share one row's traffic among them: each
// takes a growing fraction of the requests, the last what is left.
func (c *Config) hostRows(base Row, routes []*routev3.Route) []Row {
	var rows []Row
	var before uint64 // parts of a million that earlier routes of the row take
	for i, r := range routes {
		row := c.row(base, r)
		joined := i > 0 && routes[i-1].Match.GetRuntimeFraction() != nil && sameRow(routes[i-1], r)
		if !joined {
			before = 0
		}
		if split := r.Match.GetRuntimeFraction() != nil; split || joined {
			upTo := uint64(million)
			if split {
				upTo = max(c.fraction(r.Match.RuntimeFraction), before)
			}
			for j := range row.Backends {
				row.Backends[j].Weight, row.Backends[j].Total = upTo-before, million
			}
			before = upTo
		}
		if joined {
			last := &rows[len(rows)-1]
			last.Backends = append(last.Backends, row.Backends...)
			for _, f := range row.Filters {
				if !slices.Contains(last.Filters, f) {
					last.Filters = append(last.Filters, f)
				}
			}
			last.config += row.config
			continue
		}
		rows = append(rows, row)
	}
	return rows
}

// sameRow tells whether two Envoy routes are shares of one row.
func sameRow(a, b *routev3.Route) bool {
	cut := func(r *routev3.Route) string {
		parts := strings.Split(r.Name, "/")
		return strings.Join(parts[:min(len(parts), 5)], "/")
	}
	return a.Name != "" && cut(a) == cut(b)
}

func (c *Config) row(base Row, r *routev3.Route) Row {
	row := base
	if parts := strings.Split(r.Name, "/"); len(parts) >= 5 {
		row.Route, row.Rule = strings.Join(parts[:3], "/"), strings.Join(parts[3:5], "/")
	}
	row.Match = matchText(r.Match)
	row.config = canonical(r)
	row.Backends = c.backends(r.GetRoute())
	row.Answer = answerText(r)
	row.Filters = filterTexts(r)
	return row
}

func tcpRow(base Row, config *tcpproxyv3.TcpProxy) Row {
	row := base
	row.Match, row.config = "every connection", canonical(config)
	if name := config.GetCluster(); name != "" {
		row.Backends = []Backend{{Cluster: name, Weight: 1, Total: 1}}
	}
	for _, w := range config.GetWeightedClusters().GetClusters() {
		row.Backends = append(row.Backends, Backend{Cluster: w.Name, Weight: uint64(w.Weight)})
	}
	sumUp(row.Backends)
	return row
}

func udpRows(l *listenerv3.Listener, f *listenerv3.ListenerFilter) []Row {
	config, ok := unpack(f.GetTypedConfig()).(*udpproxyv3.UdpProxyConfig)
	if !ok {
		return nil
	}
	row := Row{Listener: l.Name, Match: "every datagram", config: canonical(config)}
	if route, ok := unpack(config.GetMatcher().GetOnNoMatch().GetAction().GetTypedConfig()).(*udpproxyv3.Route); ok {
		row.Backends = []Backend{{Cluster: route.GetCluster(), Weight: 1, Total: 1}}
	}
	return []Row{row}
}

func sumUp(backends []Backend) {
	total := uint64(0)
	for _, b := range backends {
		total += b.Weight
	}
	for i := range backends {
		backends[i].Total = total
	}
}

// fraction is in parts of a million.
func (c *Config) fraction(f *corev3.RuntimeFractionalPercent) uint64 {
	if value, ok := c.Runtime[f.GetRuntimeKey()].(map[string]any); ok && f.GetRuntimeKey() != "" {
		if parts, ok := partsOf(value); ok {
			return parts
		}
	}
	return percentParts(f.GetDefaultValue())
}
