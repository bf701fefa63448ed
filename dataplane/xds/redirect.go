// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
)

// redirectRoutes gives the Envoy routes of a redirect in one virtual host: one, or two
// where the Location's host comes from the request and must lose the request's port.
//
// The port in the Location follows GEP-726: the filter's; else none when the filter
// names a scheme; else the listener's; and never the one the scheme implies.
func redirectRoutes(l *graph.Listener, host string, base *routev3.Route, match graph.Match, r *graph.Redirect) []*routev3.Route {
	action := &routev3.RedirectAction{ResponseCode: redirectCode(r.StatusCode)}
	scheme := "http"
	if l.Protocol == gwv1.HTTPSProtocolType {
		scheme = "https"
	}
	port := l.Port
	if r.Scheme != nil {
		scheme = strings.ToLower(*r.Scheme)
		action.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: scheme}
		port = impliedPort(scheme)
	}
	if r.Port != nil {
		port = *r.Port
	}
	if port != impliedPort(scheme) {
		action.PortRedirect = uint32(port)
	}
	switch {
	case r.Hostname != nil:
		action.HostRedirect = *r.Hostname
	case !strings.HasPrefix(host, anyHost):
		action.HostRedirect = host
	}
	setRedirectPath(action, match.Path, r.Path)
	base.Action = &routev3.Route_Redirect{Redirect: action}
	if action.HostRedirect != "" || action.PortRedirect != 0 {
		return []*routev3.Route{base}
	}
	// Envoy would keep the port of the Host header. It drops it when the redirect
	// states one, so requests with a port get the implied one spelled out.
	withPort := proto.Clone(base).(*routev3.Route)
	withPort.Match.Headers = append(withPort.Match.Headers, headerMatcher(":authority",
		stringMatcher(graph.StringMatch{Type: graph.MatchRegex, Value: `.*:[0-9]+`})))
	withPort.GetRedirect().PortRedirect = uint32(port)
	return []*routev3.Route{withPort, base}
}

func setRedirectPath(action *routev3.RedirectAction, match graph.StringMatch, path *graph.PathModifier) {
	if path != nil && path.Full {
		full := path.Value
		if !strings.HasPrefix(full, "/") {
			full = "/" + full
		}
		action.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: full}
		return
	}
	switch p := rewritePath(path, match); {
	case p.prefix != "":
		action.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: p.prefix}
	case p.regex != nil:
		action.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: p.regex}
	}
}

func impliedPort(scheme string) int32 {
	if scheme == "https" {
		return 443
	}
	return 80
}

func redirectCode(status int) routev3.RedirectAction_RedirectResponseCode {
	switch status {
	case 301:
		return routev3.RedirectAction_MOVED_PERMANENTLY
	case 303:
		return routev3.RedirectAction_SEE_OTHER
	case 307:
		return routev3.RedirectAction_TEMPORARY_REDIRECT
	case 308:
		return routev3.RedirectAction_PERMANENT_REDIRECT
	}
	return routev3.RedirectAction_FOUND
}
