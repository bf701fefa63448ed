// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"slices"
	"strings"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// ExternalAuth is a service that is asked about each request before it goes on (GEP-1494).
// What it does not answer is not let through.
type ExternalAuth struct {
	// Cluster is where the service is.
	Cluster ClusterKey
	// TLS is nil when it is spoken to in the clear.
	TLS *UpstreamTLS
	// Host and Budget are those of a Backend.
	Host   string
	Budget *RetryBudget
	// GRPC is true when it speaks Envoy's protocol of envoy.service.auth.v3, false when it
	// answers plain HTTP requests: 200 lets a request through.
	GRPC bool
	// PathPrefix is put in front of the path of the question, over HTTP.
	PathPrefix string
	// RequestHeaders, in lower case, are what the service is told. Empty means every header
	// over gRPC, and over HTTP none beyond Host, Authorization and the request line.
	RequestHeaders []string
	// ResponseHeaders, in lower case, are those of the answer that the backend gets too,
	// over HTTP. Empty means all, except what describes the answer itself.
	ResponseHeaders []string
	// MaxBody is how many bytes of the request's body are sent along. 0 sends none; a
	// longer body is refused.
	MaxBody uint32
}

// readExternalAuth reads the ExternalAuth filter of a rule or a backendRef. A service that
// cannot be found is a problem of what the filter protects: it must not be reached without.
func readExternalAuth(field, namespace string, src []gwv1.HTTPRouteFilter, refs references) (*ExternalAuth, []Problem) {
	i := slices.IndexFunc(src, func(f gwv1.HTTPRouteFilter) bool { return f.Type == gwv1.HTTPRouteFilterExternalAuth })
	if i < 0 || src[i].ExternalAuth == nil {
		return nil, nil // what is missing or repeated is readFilters' to say
	}
	return buildExternalAuth(fmt.Sprintf("%s.filters[%d].externalAuth", field, i), KindHTTPRoute, namespace, *src[i].ExternalAuth, refs)
}

func buildExternalAuth(field string, kind RouteKind, namespace string, src gwv1.HTTPExternalAuthFilter, refs references) (*ExternalAuth, []Problem) {
	out := &ExternalAuth{}
	var problems []Problem
	var allowed []string
	settings := field
	switch src.ExternalAuthProtocol {
	case gwv1.HTTPRouteExternalAuthGRPCProtocol:
		out.GRPC = true
		if src.GRPCAuthConfig != nil {
			settings, allowed = field+".grpc", src.GRPCAuthConfig.AllowedRequestHeaders
		}
	case gwv1.HTTPRouteExternalAuthHTTPProtocol:
		if src.HTTPAuthConfig != nil {
			settings, allowed = field+".http", src.HTTPAuthConfig.AllowedRequestHeaders
		}
	default:
		return nil, []Problem{valueUnsupported(field+".protocol", "%q is not known: write HTTP or GRPC", src.ExternalAuthProtocol)}
	}
	var p []Problem
	out.RequestHeaders, p = authHeaders(settings+".allowedHeaders", allowed)
	problems = append(problems, p...)
	if !out.GRPC && src.HTTPAuthConfig != nil {
		out.ResponseHeaders, p = authHeaders(settings+".allowedResponseHeaders", src.HTTPAuthConfig.AllowedResponseHeaders)
		problems = append(problems, p...)
		for _, name := range out.ResponseHeaders {
			problems = append(problems, headerNameProblems(settings+".allowedResponseHeaders", name)...)
		}
		out.PathPrefix = src.HTTPAuthConfig.Path
		if out.PathPrefix != "" && (!isPath(out.PathPrefix) || !strings.HasPrefix(out.PathPrefix, "/")) {
			problems = append(problems, valueUnsupported(settings+".path", "%q is not a path: write one that begins with /", out.PathPrefix))
		}
	}
	if src.ForwardBody != nil {
		if src.ForwardBody.MaxSize < 0 {
			problems = append(problems, valueUnsupported(field+".forwardBody.maxSize", "%d is not a number of bytes: write 0 or more", src.ForwardBody.MaxSize))
		}
		out.MaxBody = uint32(max(src.ForwardBody.MaxSize, 0))
	}
	b := &Backend{}
	if p := b.resolve(field+".backendRef", kind, namespace, src.BackendRef, refs); p != nil {
		problems = append(problems, *p)
	}
	out.Cluster, out.TLS, out.Host, out.Budget = b.Cluster, b.TLS, b.Host, b.Budget
	if out.GRPC {
		out.Cluster.Protocol = UpstreamH2C
	}
	return out, problems
}

func authHeaders(field string, src []string) ([]string, []Problem) {
	var out []string
	var problems []Problem
	for i, name := range src {
		lower := strings.ToLower(name)
		switch {
		case !isToken(name):
			problems = append(problems, valueUnsupported(fmt.Sprintf("%s[%d]", field, i), "%q is not the name of a header", name))
		case !slices.Contains(out, lower):
			out = append(out, lower)
		}
	}
	return out, problems
}
