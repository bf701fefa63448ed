// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"regexp"
	"slices"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"headgate.dev/headgate/dataplane/graph"
)

// authTimeout is how long, in seconds, the proxy waits for the verdict on a request.
const authTimeout = 5

// authFilter asks a service about each request. It lets nothing pass when the service
// fails, which is answered with 503 to be told apart from a refusal.
func authFilter(a *graph.ExternalAuth) *extauthzv3.ExtAuthz {
	out := &extauthzv3.ExtAuthz{
		TransportApiVersion: corev3.ApiVersion_V3,
		StatusOnError:       &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		ValidateMutations:   true,
		// What never reaches a backend says nothing about it: it would count against
		// whichever version the request was meant for.
		ChargeClusterResponseStats: boolean(false),
		DecoderHeaderMutationRules: &mutationv3.HeaderMutationRules{
			DisallowSystem:     boolean(true),
			DisallowExpression: regex(untouchable(a)),
		},
		DisallowedHeaders: named(internalHeaders()),
	}
	if len(a.RequestHeaders) > 0 {
		out.AllowedHeaders = named(a.RequestHeaders)
	}
	if a.MaxBody > 0 {
		out.WithRequestBody = &extauthzv3.BufferSettings{MaxRequestBytes: a.MaxBody}
	}
	if a.GRPC {
		out.Services = &extauthzv3.ExtAuthz_GrpcService{GrpcService: &corev3.GrpcService{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: a.Cluster.Name()}},
			Timeout:         seconds(authTimeout),
		}}
		return out
	}
	answer := named(a.ResponseHeaders)
	if len(a.ResponseHeaders) == 0 {
		answer = &matcherv3.ListStringMatcher{Patterns: []*matcherv3.StringMatcher{
			stringMatcher(graph.StringMatch{Type: graph.MatchRegex, Value: "[^:].*"}),
		}}
	}
	out.Services = &extauthzv3.ExtAuthz_HttpService{HttpService: &extauthzv3.HttpService{
		ServerUri: &corev3.HttpUri{
			// The question goes to the cluster, with the Host of the request.
			Uri:              "http://authorization",
			HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: a.Cluster.Name()},
			Timeout:          seconds(authTimeout),
		},
		PathPrefix:            strings.TrimSuffix(a.PathPrefix, "/"),
		AuthorizationResponse: &extauthzv3.AuthorizationResponse{AllowedUpstreamHeaders: answer},
	}}
	return out
}

// withoutForged takes off the client's headers that the backend is to have from the answer of the
// service: who may not be told so by the service must not tell the backend himself. What
// the service is told it can judge, so it stays.
func withoutForged(a *graph.ExternalAuth) []*corev3.TypedExtensionConfig {
	var mutations []*mutationv3.HeaderMutation
	for _, name := range a.ResponseHeaders {
		if !slices.Contains(a.RequestHeaders, name) && !slices.Contains(alwaysTold, name) {
			mutations = append(mutations, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}})
		}
	}
	if len(mutations) == 0 {
		return nil
	}
	return []*corev3.TypedExtensionConfig{{
		Name:        "envoy.filters.http.header_mutation",
		TypedConfig: toAny(&headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{RequestMutations: mutations}}),
	}}
}

// alwaysTold are the headers that a service over HTTP is told in any case.
var alwaysTold = []string{"authorization", "content-length", "host"}

func named(headers []string) *matcherv3.ListStringMatcher {
	out := &matcherv3.ListStringMatcher{}
	for _, name := range headers {
		matcher := exactly(name)
		matcher.IgnoreCase = true
		out.Patterns = append(out.Patterns, matcher)
	}
	return out
}

// untouchable are the headers of a request that the answer of an authorization service
// must not change: what frames the message, the host, and, of an answer that is taken over
// whole, what describes the answer and not the request.
func untouchable(a *graph.ExternalAuth) string {
	names := []string{
		"connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", scopeHeader, connectionHeader,
	}
	if !a.GRPC && len(a.ResponseHeaders) == 0 {
		names = append(names, "content-encoding", "content-language", "content-type", "date", "server", "vary")
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = regexp.QuoteMeta(name)
	}
	return "(?i)(" + strings.Join(names, "|") + ")"
}
