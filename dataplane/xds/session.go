// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	statefulsessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	cookiev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/cookie/v3"
	headerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/header/v3"
	typehttpv3 "github.com/envoyproxy/go-control-plane/envoy/type/http/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"headgate.dev/headgate/dataplane/graph"
)

// session keeps a client on the endpoint that served it first, for as long as that is
// there: another takes over when it is gone. The endpoint's address stands in the cookie or
// header, so no proxy has to remember anything, and all of them agree.
func session(s *graph.Session) *statefulsessionv3.StatefulSessionPerRoute {
	state := &corev3.TypedExtensionConfig{}
	if s.Header != "" {
		state.Name = "envoy.http.stateful_session.header"
		state.TypedConfig = toAny(&headerv3.HeaderBasedSessionState{Name: s.Header})
	} else {
		state.Name = "envoy.http.stateful_session.cookie"
		cookie := &typehttpv3.Cookie{Name: s.Cookie, Path: s.Path}
		if s.Lifetime > 0 {
			cookie.Ttl = durationpb.New(s.Lifetime)
		}
		state.TypedConfig = toAny(&cookiev3.CookieBasedSessionState{Cookie: cookie})
	}
	return &statefulsessionv3.StatefulSessionPerRoute{
		Override: &statefulsessionv3.StatefulSessionPerRoute_StatefulSession{
			StatefulSession: &statefulsessionv3.StatefulSession{SessionState: state},
		},
	}
}
