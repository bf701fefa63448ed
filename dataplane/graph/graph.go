// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package graph turns Gateway API objects into a validated graph. Invalid is
// data: every node keeps its Source, whether it is Valid and its Problems;
// configuration (package xds) skips what is not valid, status (package status)
// explains it, and both read the same graph.
//
//	Resources ──Build──▶ Graph
//	                      ├─ Classes
//	                      ├─ Gateways, ListenerSets ─ Listeners ─ Attachments ─▶ Route
//	                      └─ Routes ─ Parents, Rules ─ Backends ─▶ ClusterKey
package graph

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"headgate.dev/headgate/api/v1beta1"
)

// Resources is every object that Build reads. It is never modified.
type Resources struct {
	// ControllerName selects the GatewayClasses that are ours.
	ControllerName string
	// IPv6 is true when pods of the cluster have IPv6 addresses, alone or beside IPv4 ones.
	IPv6 bool
	// Definitions are the metadata of the cluster's CRDs of the Gateway API, by name; empty when
	// they are not known.
	Definitions     map[string]*metav1.PartialObjectMetadata
	GatewayClasses  map[string]*gwv1.GatewayClass
	Gateways        map[types.NamespacedName]*gwv1.Gateway
	HTTPRoutes      map[types.NamespacedName]*gwv1.HTTPRoute
	GRPCRoutes      map[types.NamespacedName]*gwv1.GRPCRoute
	TLSRoutes       map[types.NamespacedName]*gwv1.TLSRoute
	TCPRoutes       map[types.NamespacedName]*gwv1.TCPRoute
	UDPRoutes       map[types.NamespacedName]*gwv1.UDPRoute
	ListenerSets    map[types.NamespacedName]*gwv1.ListenerSet
	ReferenceGrants map[types.NamespacedName]*gwv1beta1.ReferenceGrant
	Namespaces      map[string]*corev1.Namespace
	Services        map[types.NamespacedName]*corev1.Service
	Secrets         map[types.NamespacedName]*corev1.Secret
	ProxyConfigs    map[types.NamespacedName]*v1beta1.ProxyConfig

	// ConfigMaps, ClusterTrustBundles and Secrets are those that Wanted names, as far as they exist.
	ConfigMaps          map[types.NamespacedName]*corev1.ConfigMap
	ClusterTrustBundles map[string]*certificatesv1.ClusterTrustBundle
	// Denied are the references that Headgate may not read: whether they exist is not known.
	Denied map[Reference]bool
	// SystemAuthorities is the bundle of well-known authorities, see SystemAuthorities; empty
	// when there is none.
	SystemAuthorities []byte
	// ExternalNames lets routes send to Services of type ExternalName.
	ExternalNames bool

	BackendTLSPolicies      map[types.NamespacedName]*gwv1.BackendTLSPolicy
	XBackends               map[types.NamespacedName]*gwxv1alpha1.XBackend
	XBackendTrafficPolicies map[types.NamespacedName]*gwxv1alpha1.XBackendTrafficPolicy
}

// NewResources has no object of any kind.
func NewResources(controllerName string) Resources {
	return Resources{
		ControllerName:  controllerName,
		Definitions:     map[string]*metav1.PartialObjectMetadata{},
		GatewayClasses:  map[string]*gwv1.GatewayClass{},
		Gateways:        map[types.NamespacedName]*gwv1.Gateway{},
		HTTPRoutes:      map[types.NamespacedName]*gwv1.HTTPRoute{},
		GRPCRoutes:      map[types.NamespacedName]*gwv1.GRPCRoute{},
		TLSRoutes:       map[types.NamespacedName]*gwv1.TLSRoute{},
		TCPRoutes:       map[types.NamespacedName]*gwv1.TCPRoute{},
		UDPRoutes:       map[types.NamespacedName]*gwv1.UDPRoute{},
		ListenerSets:    map[types.NamespacedName]*gwv1.ListenerSet{},
		ReferenceGrants: map[types.NamespacedName]*gwv1beta1.ReferenceGrant{},
		Namespaces:      map[string]*corev1.Namespace{},
		Services:        map[types.NamespacedName]*corev1.Service{},
		Secrets:         map[types.NamespacedName]*corev1.Secret{},
		ProxyConfigs:    map[types.NamespacedName]*v1beta1.ProxyConfig{},

		ConfigMaps:          map[types.NamespacedName]*corev1.ConfigMap{},
		ClusterTrustBundles: map[string]*certificatesv1.ClusterTrustBundle{},
		Denied:              map[Reference]bool{},

		BackendTLSPolicies:      map[types.NamespacedName]*gwv1.BackendTLSPolicy{},
		XBackends:               map[types.NamespacedName]*gwxv1alpha1.XBackend{},
		XBackendTrafficPolicies: map[types.NamespacedName]*gwxv1alpha1.XBackendTrafficPolicy{},
	}
}

// Graph is the validated whole. All slices are sorted: Gateways, ListenerSets
// and Classes by name, Routes by kind, namespace and name.
type Graph struct {
	Classes  []*Class
	Gateways []*Gateway
	// ListenerSets are those that name one of the Gateways.
	ListenerSets []*ListenerSet
	Routes       []*Route
	// Policies are those of backends, by name.
	Policies []*BackendTLSPolicy
	// XBackends and TrafficPolicies are by namespace and name.
	XBackends       []*XBackend
	TrafficPolicies []*TrafficPolicy
}

// Class is a GatewayClass that names our controller.
type Class struct {
	Source *gwv1.GatewayClass
	// Proxy is how the proxies of its Gateways run where they say nothing else.
	Proxy    v1beta1.ProxyConfigSpec
	Valid    bool
	Problems []Problem
	// Experimental is true when the cluster has the fields of the experimental channel.
	Experimental bool
	// VersionKnown is true when the versions of the cluster's definitions are known; what is
	// wrong with them is among the Problems, and does not make the class invalid.
	VersionKnown bool
}

// Gateway is a Gateway of one of our classes.
type Gateway struct {
	Key    types.NamespacedName
	Source *gwv1.Gateway
	Class  *Class
	// Listeners are the Gateway's own, followed by those of the ListenerSets that it
	// allows, in order of precedence: a later one never takes anything from an earlier one.
	Listeners []*Listener
	// Addresses are the IP addresses that the owner asks for, in his order. Empty:
	// any will do.
	Addresses []string
	// IPv6 is true when the proxies listen on IPv6 as well as on IPv4.
	IPv6 bool
	// ClientCertificate is what the proxies show to backends that they speak TLS to,
	// unless UpstreamTLS says otherwise; nil for none.
	ClientCertificate *Certificate
	// Proxy is how its proxies run, with the defaults of the class and without those that
	// Headgate was installed with.
	Proxy v1beta1.ProxyConfigSpec
	// Valid is false when the Gateway is not accepted as a whole. What was served
	// before stays as it is.
	Valid    bool
	Problems []Problem
}

// Listener is one listener of a Gateway, its own or that of a ListenerSet.
type Listener struct {
	Gateway *Gateway
	// Set is nil for the Gateway's own.
	Set      *ListenerSet
	Name     gwv1.SectionName
	Source   gwv1.Listener
	Port     int32
	Protocol gwv1.ProtocolType
	// Hostname is lower case and empty for "every host".
	Hostname string
	// Certificates are the validated key pairs of a listener that ends TLS, in the
	// order of certificateRefs. A TLS listener without passes TLS through.
	Certificates []Certificate
	// ClientValidation is nil when clients need not show a certificate.
	ClientValidation *ClientValidation
	// allowed says which routes may attach.
	allowed allowedRoutes
	// SupportedKinds is what the listener's status publishes.
	SupportedKinds []gwv1.RouteGroupKind
	// Attachments are the accepted routes, in order of precedence: age, then name.
	Attachments []*Attachment
	Valid       bool
	Problems    []Problem
}

// Certificate is a TLS key pair from a Secret.
type Certificate struct {
	Secret    types.NamespacedName
	Cert, Key []byte
}

// Attachment is one route on one listener.
type Attachment struct {
	Route    *Route
	Listener *Listener
	// Hostnames is the intersection of the listener's hostname and the route's;
	// {""} stands for every host.
	Hostnames []string
}

// Origin gives the most specific of the route's own hostnames that covers host,
// one of a.Hostnames. It decides the precedence between routes that meet on host;
// "" stands for a route without hostnames.
func (a *Attachment) Origin(host string) string {
	best := ""
	for _, own := range a.Route.Hostnames {
		if covers(own, host) && (best == "" || moreSpecific(own, best)) {
			best = own
		}
	}
	return best
}

// RouteKind tells route kinds apart.
type RouteKind string

// The kinds of routes.
const (
	KindHTTPRoute RouteKind = "HTTPRoute"
	KindGRPCRoute RouteKind = "GRPCRoute"
	KindTLSRoute  RouteKind = "TLSRoute"
	KindTCPRoute  RouteKind = "TCPRoute"
	KindUDPRoute  RouteKind = "UDPRoute"
)

// Route is a route of any kind with at least one parent that is ours, or with a
// status of ours from the time when it had one; then Parents is empty.
type Route struct {
	Kind   RouteKind
	Key    types.NamespacedName
	Source client.Object
	// Hostnames are lower case, valid and in the order written; empty means every host.
	Hostnames []string
	Parents   []*Parent
	Rules     []*Rule
	// noHost is true when hostnames were given but none is valid: the route then
	// serves no host, not every host.
	noHost bool
	// Running is true while a release runs on the route (v1beta1.AnnotationRelease):
	// its weights travel as runtime keys.
	Running bool
	// Problems concern the route whole, under every parent; those of rules and
	// backends stand there.
	Problems []Problem
}

// Parent is one parentRef of a route that names a Gateway or a ListenerSet of ours.
type Parent struct {
	Ref     gwv1.ParentReference
	Gateway *Gateway
	// Set is nil when the Gateway itself is named; else Gateway is the set's.
	Set *ListenerSet
	// Default is true for a Gateway that the route does not name: it asks for default
	// Gateways, and this is one.
	Default bool
	// Candidates are the parent's listeners, each with what became of the route there.
	Candidates []Candidate
	// Attachments is empty when the route was not accepted by any listener.
	Attachments []*Attachment
	Accepted    bool
	Problems    []Problem
}

// Candidate is a listener that a parentRef may mean, and the first gate at which
// it refuses the route.
type Candidate struct {
	Listener *Listener
	// Named is false when sectionName or port of the parentRef mean another listener.
	Named bool
	// Refusal is nil when the listener takes the route, or is not named.
	Refusal *Problem
}

// Rule is one rule of a route. A rule that is not Valid answers 500, or closes connections.
type Rule struct {
	Index    int
	Name     string
	Matches  []Match
	Filters  Filters
	Backends []*Backend
	// Mirrors get copies of the requests.
	Mirrors []*Mirror
	// RequestTimeout and BackendTimeout are nil when unset; zero means none.
	RequestTimeout, BackendTimeout *Duration
	// Retry is nil when the rule says nothing about it.
	Retry    *Retry
	Valid    bool
	Problems []Problem
}

// Backend is one backendRef of a rule. One that is not Valid gets its share of
// the traffic answered with 500, closed or dropped.
type Backend struct {
	Weight  int32
	Cluster ClusterKey
	// TLS is nil when the backend is spoken to without TLS.
	TLS *UpstreamTLS
	// Host is the DNS name, with a dot at its end, of a backend outside of the cluster.
	// Empty means that its endpoints are known.
	Host string
	// Budget bounds its retries; nil leaves them to the routes.
	Budget *RetryBudget
	// Through gets the connections whose TLS is passed through, which is never put into
	// another one, whether the rest is valid or not. Nil: there are none, or Cluster gets them.
	Through  *ClusterKey
	Filters  Filters
	Valid    bool
	Problems []Problem
}

// ClusterKey names an upstream: one per Service, port and protocol, never per rule.
type ClusterKey struct {
	// Kind tells what Service is the name of.
	Kind               UpstreamKind
	Namespace, Service string
	Port               int32
	Protocol           UpstreamProtocol
}

// Name is the Envoy cluster name: "namespace/service/port", plus "/xbackend" when it is no
// Service, plus "/h2c" or so when the protocol is not HTTP/1.1. It has no dots, so that Envoy's statistics
// keep it whole in the label envoy_cluster_name.
func (k ClusterKey) Name() string {
	name := k.Namespace + "/" + k.Service + "/" + itoa(k.Port)
	if k.Kind != UpstreamService {
		name += "/" + string(k.Kind)
	}
	if k.Protocol != UpstreamHTTP {
		name += "/" + string(k.Protocol)
	}
	return name
}

// UpstreamProtocol is what is spoken to a backend.
type UpstreamProtocol string

// The protocols spoken to backends.
const (
	// UpstreamHTTP is HTTP/1.1.
	UpstreamHTTP UpstreamProtocol = ""
	// UpstreamH2C is HTTP/2 without TLS, by appProtocol kubernetes.io/h2c or for GRPCRoutes.
	UpstreamH2C UpstreamProtocol = "h2c"
	// UpstreamWebSocket is HTTP/1.1 with appProtocol kubernetes.io/ws.
	UpstreamWebSocket UpstreamProtocol = "ws"
	// UpstreamTCP is bytes, whatever the appProtocol, for TLSRoutes and TCPRoutes.
	UpstreamTCP UpstreamProtocol = "tcp"
	// UpstreamSecureTCP is bytes in TLS of the proxies' own, because a BackendTLSPolicy asks for it.
	UpstreamSecureTCP UpstreamProtocol = "tls"
	// UpstreamUDP is datagrams.
	UpstreamUDP UpstreamProtocol = "udp"
)
