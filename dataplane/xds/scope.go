// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"regexp"
	"slices"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matchingv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/matching/v3"
	skipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/matcher/action/v3"
	filterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	setfilterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"headgate.dev/headgate/dataplane/graph"
)

// The routes of a Gateway are cut into scopes, one to each port and host, so that a
// change of one host's routes costs a proxy nothing for all others. Envoy finds a
// request's scope by the exact value of a header; so, before anything else, the connection
// manager writes
//
//	x-headgate-scope: http-80/shop.example.com            HTTP
//	x-headgate-scope: https-443/shop.example.com:listener HTTPS
//
// over whatever a client sent under that name, and Envoy looks for the part before the
// first colon, which takes off the port of the Host header too. The listener at its end tells
// which one the connection belongs to, see misdirected.
//
// Envoy's scopes know no wildcards and no fallback. A request whose host has no scope of
// its own has no route when the filters are chosen, so it gets those of scopeFilters,
// which lead it to the scope "*" of its port; the scopes of exact hosts switch them off.

// scopeHeader is the internal header. It is taken off before a backend sees the request.
const scopeHeader = "x-headgate-scope"

// connectionHeader is another one, on HTTPS ports: the listener that a connection belongs
// to and the server name that it was opened for, "listener//shop.example.com".
const connectionHeader = "x-headgate-connection"

// internalHeaders are no business of backends and authorization services.
func internalHeaders() []string { return []string{scopeHeader, connectionHeader} }

// table is the routes of one port: a request that came in through its connection
// manager is served by its scopes.
type table struct {
	// name is the name of the Envoy listener.
	name string
	// listener is the Gateway's listener on an HTTPS port, of which each has a
	// connection manager of its own; empty on an HTTP port.
	listener string
}

// suffix ends the scope header of the table's requests.
func (t table) suffix() string {
	if t.listener == "" {
		return ""
	}
	return ":" + t.listener
}

// Names of the routes that answer what no rule does.
const (
	misdirectedName = "misdirected"
	unmatchedName   = "unmatched"
)

// scopeName names the scope of a host, anyHost for the one of wildcards and unknown hosts.
func scopeName(tableName, host string) string { return tableName + "/" + host }

// exact tells whether a hostname is one host, which has a scope of its own.
func exact(host string) bool { return !strings.HasPrefix(host, anyHost) }

// Names of the filters that lead requests to the scope of wildcards.
const (
	filterAnyScope  = "headgate.scope.any"
	filterNewScope  = "headgate.scope.new"
	filterLowerCase = "headgate.scope.lowercase"
)

// scopes gives the scopes of a port, by name. The one of wildcards is always there.
func scopes(tableName string, hosts []*routev3.VirtualHost, m *memory) map[string]*routev3.ScopedRouteConfiguration {
	out := map[string]*routev3.ScopedRouteConfiguration{}
	var rest []*routev3.VirtualHost
	for _, vh := range hosts {
		if !exact(vh.Name) {
			rest = append(rest, vh)
			continue
		}
		own := exactScope(tableName, vh, m)
		out[own.Name] = own
	}
	rests := anyScope(tableName, rest, m)
	out[rests.Name] = rests
	return out
}

// exactScope is the scope of one host.
func exactScope(tableName string, vh *routev3.VirtualHost, m *memory) *routev3.ScopedRouteConfiguration {
	return m.scope(scopeName(tableName, vh.Name), []*routev3.VirtualHost{vh}, func() *routev3.ScopedRouteConfiguration {
		own := scope(tableName, vh.Name)
		own.RouteConfiguration.TypedPerFilterConfig = switchedOff()
		return own
	})
}

// anyScope is the scope of wildcards and unknown hosts.
func anyScope(tableName string, hosts []*routev3.VirtualHost, m *memory) *routev3.ScopedRouteConfiguration {
	return m.scope(scopeName(tableName, anyHost), hosts, func() *routev3.ScopedRouteConfiguration { return scope(tableName, anyHost) })
}

// switchedOff keeps the filters that a route of an exact host has no use for out of its requests'
// chains, which costs less than to create them and let them find nothing to do: the ones that
// lead to the wildcards, and those of perRoute, which a route that has settings for one switches on with them.
// The scope of the wildcards cannot do so: the filters are chosen before a request is led there.
func switchedOff() map[string]*anypb.Any {
	out := map[string]*anypb.Any{}
	for _, filter := range []string{filterAnyScope, filterNewScope, filterLowerCase, corsFilter, routeFilters, sessionFilter} {
		out[filter] = toAny(&routev3.FilterConfig{Disabled: true})
	}
	return out
}

func scope(tableName, host string) *routev3.ScopedRouteConfiguration {
	name := scopeName(tableName, host)
	return &routev3.ScopedRouteConfiguration{
		Name: name,
		Key: &routev3.ScopedRouteConfiguration_Key{Fragments: []*routev3.ScopedRouteConfiguration_Key_Fragment{{
			Type: &routev3.ScopedRouteConfiguration_Key_Fragment_StringKey{StringKey: name},
		}}},
		RouteConfiguration: routeConfig(name),
	}
}

// everything matches every path, also one that is "*".
func everything() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: ""}}
}

// misdirected answers 421 to requests that came in through another listener of the
// port than the one that owns their host: over HTTP/2 a client may reuse a connection for a
// name that another listener serves, with other certificates and policies, and must then
// open a new one.
//
// A connection of a wider listener that asked for a name of the owner's is older than
// the owner: today it would be the owner's. It is served, so that a listener can be added for
// a host in use; what clients have to prove is the same on the whole port. That of a host
// which a listener for connections takes over is misdirected: nothing here speaks HTTP for it.
func misdirected(p port, l *graph.Listener) *routev3.Route {
	owner, match := p.tableOf(l), everything()
	match.Headers = []*routev3.HeaderMatcher{{
		Name: scopeHeader,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: owner.suffix()},
		}},
		InvertMatch: true,
	}}
	var wider []string
	for _, other := range p.listeners {
		if overHTTP(l) && other != l && slices.Contains(widening(orAny(l.Hostname)), orAny(other.Hostname)) {
			wider = append(wider, regexp.QuoteMeta(other.ID()))
		}
	}
	if len(wider) > 0 {
		name := "[^/]*" + regexp.QuoteMeta(strings.TrimPrefix(l.Hostname, anyHost))
		if exact(l.Hostname) {
			name = regexp.QuoteMeta(l.Hostname)
		}
		match.Headers = append(match.Headers, &routev3.HeaderMatcher{
			Name: connectionHeader,
			HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
				MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex("(?:" + strings.Join(wider, "|") + ")//" + name)},
			}},
			InvertMatch: true,
		})
	}
	return &routev3.Route{Name: misdirectedName, Match: match, Action: directResponse(421)}
}

// TableOfScope is the name of the Envoy listener that a scope belongs to.
func TableOfScope(scope string) string {
	name, _, _ := strings.Cut(scope, "/")
	return name
}

// IsMisdirected tells whether an Envoy route answers requests that came in through the
// wrong listener.
func IsMisdirected(route *routev3.Route) bool { return route.Name == misdirectedName }

// IsUnmatched tells whether an Envoy route is the last one of a host, which answers 404.
func IsUnmatched(route *routev3.Route) bool { return route.Name == unmatchedName }

// Owns tells whether a filter chain of an HTTPS listener is the one whose requests such a
// route lets pass.
func Owns(chain string, misdirected *routev3.Route) bool {
	_, listener, _ := strings.Cut(chain, "/")
	return misdirected.Match.Headers[0].GetStringMatch().GetSuffix() == table{listener: listener}.suffix()
}

// scopedRoutes makes a connection manager choose a scope for each request. All of a
// proxy's share one subscription: Envoy tells them apart by this message.
func scopedRoutes() *hcmv3.HttpConnectionManager_ScopedRoutes {
	return &hcmv3.HttpConnectionManager_ScopedRoutes{ScopedRoutes: &hcmv3.ScopedRoutes{
		Name: "headgate",
		ScopeKeyBuilder: &hcmv3.ScopedRoutes_ScopeKeyBuilder{Fragments: []*hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder{{
			Type: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_{
				HeaderValueExtractor: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor{
					Name:             scopeHeader,
					ElementSeparator: ":",
					ExtractType:      &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_Index{Index: 0},
				},
			},
		}}},
		RdsConfigSource: adsSource(nil),
		ConfigSpecifier: &hcmv3.ScopedRoutes_ScopedRds{ScopedRds: &hcmv3.ScopedRds{ScopedRdsConfigSource: adsSource(nil)}},
	}}
}

// earlyMutations writes the scope header of a table's requests.
func earlyMutations(t table) []*corev3.TypedExtensionConfig {
	mutations := []*mutationv3.HeaderMutation{setScope(scopeName(t.name, "%REQ(:AUTHORITY)%") + t.suffix())}
	if t.listener != "" {
		mutations = append(mutations, setHeader(connectionHeader, t.listener+"//%REQUESTED_SERVER_NAME%"))
	}
	return []*corev3.TypedExtensionConfig{{
		Name:        "envoy.http.early_header_mutation.header_mutation",
		TypedConfig: toAny(&earlyv3.HeaderMutation{Mutations: mutations}),
	}}
}

func setScope(value string) *mutationv3.HeaderMutation { return setHeader(scopeHeader, value) }

func setHeader(name, value string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}}}
}

// lowerCase looks once more for the scope of a host that was written with capitals, and
// leads it back to that of the wildcards when there is none. Envoy makes of several Host
// headers one host with commas; such a request must be refused (RFC 9112, section 3.2), for
// the backend may take another of them for the host than the gateway did.
const lowerCase = `
function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:get(":authority"):find(",", 1, true) then
    handle:respond({[":status"] = "400"}, "")
    return
  end
  local any = headers:get("x-headgate-scope")
  local table, listener = any:match("^(.-/)%*(.*)$")
  headers:replace("x-headgate-scope", table .. string.lower(headers:get(":authority")) .. listener)
  handle:clearRouteCache()
  handle:metadata() -- looks for the route
  if handle:streamInfo():routeName() == "" then
    headers:replace("x-headgate-scope", any)
    handle:clearRouteCache()
  end
end
`

// scopeFilters lead a request whose host has no scope of its own to the scope of the
// wildcards. They come before every other filter.
func scopeFilters(t table) []*hcmv3.HttpFilter {
	return []*hcmv3.HttpFilter{
		httpFilter(filterAnyScope, &headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{
			RequestMutations: []*mutationv3.HeaderMutation{setScope(scopeName(t.name, anyHost) + t.suffix())},
		}}),
		// The filter above cannot make Envoy look for the route anew; this one can.
		httpFilter(filterNewScope, &setfilterstatev3.Config{
			OnRequestHeaders: []*filterstatev3.FilterStateValue{{
				Key:        &filterstatev3.FilterStateValue_ObjectKey{ObjectKey: filterNewScope},
				FactoryKey: "envoy.string",
				Value: &filterstatev3.FilterStateValue_FormatString{FormatString: &corev3.SubstitutionFormatString{
					Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
						Specifier: &corev3.DataSource_InlineString{InlineString: anyHost},
					}},
				}},
			}},
			ClearRouteCache: true,
		}),
		httpFilter(filterLowerCase, unlessLowerCase("envoy.filters.http.lua", &luav3.Lua{
			DefaultSourceCode: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: lowerCase}},
			ClearRouteCache:   boolean(false), // the script says when
		})),
	}
}

// unlessLowerCase skips a filter for requests whose host has no capitals and no comma, which
// is all but a few: DNS does not care for case, and clients write lower case.
func unlessLowerCase(name string, filter proto.Message) *matchingv3.ExtensionWithMatcher {
	return &matchingv3.ExtensionWithMatcher{
		ExtensionConfig: &corev3.TypedExtensionConfig{Name: name, TypedConfig: toAny(filter)},
		XdsMatcher: &xdsmatcherv3.Matcher{MatcherType: &xdsmatcherv3.Matcher_MatcherList_{MatcherList: &xdsmatcherv3.Matcher_MatcherList{
			Matchers: []*xdsmatcherv3.Matcher_MatcherList_FieldMatcher{{
				Predicate: &xdsmatcherv3.Matcher_MatcherList_Predicate{
					MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{
						SinglePredicate: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
							Input: &xdscorev3.TypedExtensionConfig{
								Name:        "authority",
								TypedConfig: toAny(&matcherv3.HttpRequestHeaderMatchInput{HeaderName: ":authority"}),
							},
							Matcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{
								ValueMatch: &xdsmatcherv3.StringMatcher{MatchPattern: &xdsmatcherv3.StringMatcher_SafeRegex{
									SafeRegex: &xdsmatcherv3.RegexMatcher{
										EngineType: &xdsmatcherv3.RegexMatcher_GoogleRe2{GoogleRe2: &xdsmatcherv3.RegexMatcher_GoogleRE2{}},
										Regex:      "[^A-Z,]*",
									},
								}},
							},
						},
					},
				},
				OnMatch: &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{
					Action: &xdscorev3.TypedExtensionConfig{Name: "skip", TypedConfig: toAny(&skipv3.SkipFilter{})},
				}},
			}},
		}}},
	}
}
