// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// BackendTLSPolicy is a policy that concerns a Gateway of ours, or carries a status of
// ours from the time when it did; then Ancestors is empty.
type BackendTLSPolicy struct {
	Key    types.NamespacedName
	Source *gwv1.BackendTLSPolicy
	// Ancestors are the Gateways whose routes send to a Service that it targets, by name.
	Ancestors []*Gateway
	Problems  []Problem
	// tls is nil when the policy cannot be followed. Backends that it concerns then
	// answer 500: that they be spoken to without TLS is what its owner does not want.
	tls *UpstreamTLS
}

// policyTarget is a Service, or one of its ports by name.
type policyTarget struct {
	service types.NamespacedName
	section string
}

// policies are the BackendTLSPolicies by what they are in force for.
type policies map[policyTarget]*BackendTLSPolicy

// of is the policy in force for a port of a Service, or nil. One for the port goes
// before one for the Service.
func (p policies) of(service types.NamespacedName, portName string) *BackendTLSPolicy {
	if portName != "" {
		if policy := p[policyTarget{service, portName}]; policy != nil {
			return policy
		}
	}
	return p[policyTarget{service: service}]
}

// buildPolicies makes every policy, and finds which are in force: of several for the same
// target the oldest is, then the one whose name comes first in the alphabet.
func buildPolicies(sources map[types.NamespacedName]*gwv1.BackendTLSPolicy, refs references) ([]*BackendTLSPolicy, policies) {
	var all []*BackendTLSPolicy
	for _, key := range sortedKeys(sources) {
		if src := sources[key]; src != nil {
			all = append(all, buildPolicy(src, refs))
		}
	}
	byAge := slices.Clone(all)
	slices.SortStableFunc(byAge, func(a, b *BackendTLSPolicy) int {
		return cmp.Or(a.Source.CreationTimestamp.Compare(b.Source.CreationTimestamp.Time), compareKeys(a.Key, b.Key))
	})
	inForce := policies{}
	for _, p := range byAge {
		for _, target := range p.targets() {
			if other := inForce[target]; other != nil && other != p {
				p.Problems = append([]Problem{policyConflicted(target, other.Key)}, p.Problems...)
				continue
			}
			inForce[target] = p
		}
	}
	return all, inForce
}

// targets are the Services, and ports of Services, that the policy is for.
func (p *BackendTLSPolicy) targets() []policyTarget {
	var targets []policyTarget
	for _, ref := range p.Source.Spec.TargetRefs {
		if ref.Group == "" && ref.Kind == "Service" {
			targets = append(targets, policyTarget{types.NamespacedName{Namespace: p.Key.Namespace, Name: string(ref.Name)}, string(deref(ref.SectionName, ""))})
		}
	}
	return targets
}

func buildPolicy(src *gwv1.BackendTLSPolicy, refs references) *BackendTLSPolicy {
	p := &BackendTLSPolicy{Key: keyOf(src), Source: src}
	for _, option := range slices.Sorted(maps.Keys(src.Spec.Options)) {
		p.Problems = append(p.Problems, policyInvalid("spec.options has %q, which is not known: remove it", option))
	}
	tls := &UpstreamTLS{ServerName: strings.ToLower(string(src.Spec.Validation.Hostname))}
	p.Problems = append(p.Problems, tls.readNames("spec.validation", src.Spec.Validation)...)
	failures, problems := tls.readTrust("spec.validation", "BackendTLSPolicy", src.Namespace, src.Spec.Validation, refs)
	for _, f := range failures {
		p.Problems = append(p.Problems, f.problem(string(gwv1.BackendTLSPolicyConditionResolvedRefs),
			string(gwv1.BackendTLSPolicyReasonInvalidKind), string(gwv1.BackendTLSPolicyReasonInvalidCACertificateRef), string(gwv1.BackendTLSPolicyReasonInvalidCACertificateRef)))
	}
	p.Problems = append(p.Problems, problems...)
	tls.Trust.Name = cmp.Or(tls.Trust.Name, "policy/"+src.Namespace+"/"+src.Name)
	if !Has(p.Problems, string(gwv1.PolicyConditionAccepted)) {
		p.tls = tls
	}
	for _, target := range p.targets() {
		if service := refs.services[target.service]; service != nil && target.section != "" && !hasPort(service, target.section) {
			p.Problems = append(p.Problems, policyTargetNotFound(target))
		}
	}
	return p
}

func hasPort(service *corev1.Service, name string) bool {
	return slices.ContainsFunc(service.Spec.Ports, func(port corev1.ServicePort) bool { return port.Name == name })
}

// readNames reads whose certificate the backend must show: that of the hostname, or,
// where other names are given, one of those and not the hostname.
func (t *UpstreamTLS) readNames(field string, src gwv1.BackendTLSPolicyValidation) []Problem {
	var problems []Problem
	if !validHostname(t.ServerName) || strings.HasPrefix(t.ServerName, "*") {
		problems = append(problems, policyInvalid("%s.hostname is %q: write a DNS name such as shop.example.com", field, src.Hostname))
	}
	for i, name := range src.SubjectAltNames {
		host := strings.ToLower(string(name.Hostname))
		switch {
		case name.Type == gwv1.HostnameSubjectAltNameType && validHostname(host):
			t.Names = append(t.Names, CertificateName{Value: host})
		case name.Type == gwv1.HostnameSubjectAltNameType:
			problems = append(problems, policyInvalid("%s.subjectAltNames[%d].hostname is %q: write a DNS name such as shop.example.com or *.example.com", field, i, name.Hostname))
		case name.Type == gwv1.URISubjectAltNameType && name.URI != "":
			t.Names = append(t.Names, CertificateName{URI: true, Value: string(name.URI)})
		case name.Type == gwv1.URISubjectAltNameType:
			problems = append(problems, policyInvalid("%s.subjectAltNames[%d].uri is missing", field, i))
		default:
			problems = append(problems, policyInvalid("%s.subjectAltNames[%d].type is %q: write Hostname or URI", field, i, name.Type))
		}
	}
	if len(src.SubjectAltNames) == 0 {
		t.Names = []CertificateName{{Value: t.ServerName}}
	}
	return problems
}

// readTrust reads who must have signed the backend's certificate. What is read of the
// objects that the kind in the namespace refers to gets a name from the caller.
func (t *UpstreamTLS) readTrust(field, kind, namespace string, src gwv1.BackendTLSPolicyValidation, refs references) ([]failure, []Problem) {
	if wellKnown := deref(src.WellKnownCACertificates, ""); wellKnown != "" && len(src.CACertificateRefs) == 0 {
		switch {
		case wellKnown != gwv1.WellKnownCACertificatesSystem:
			return nil, []Problem{policyInvalid("%s.wellKnownCACertificates is %q: write System, or name the authorities in caCertificateRefs", field, wellKnown)}
		case len(refs.system) == 0:
			return nil, []Problem{policyInvalid("%s.wellKnownCACertificates is System, but Headgate's image holds no system certificates: name the authorities in caCertificateRefs", field)}
		}
		t.Trust = TrustBundle{Name: "system", PEM: refs.system}
		return nil, nil
	}
	bundle, failures := refs.authorities(field+".caCertificateRefs", kind, namespace, authorityRefs(src))
	t.Trust.PEM = bundle
	if len(bundle) == 0 {
		return failures, []Problem{policyWithoutAuthority(field)}
	}
	return failures, nil
}

// authorityRefs are what a validation names, all in the namespace where it stands.
func authorityRefs(src gwv1.BackendTLSPolicyValidation) []gwv1.ObjectReference {
	var list []gwv1.ObjectReference
	for _, ref := range src.CACertificateRefs {
		list = append(list, gwv1.ObjectReference{Group: ref.Group, Kind: ref.Kind, Name: ref.Name})
	}
	return list
}

// linkPolicies finds the Gateways that each policy concerns, and gives the policies that
// have one, or had.
func (g *Graph) linkPolicies(all []*BackendTLSPolicy, controllerName string) {
	used := map[types.NamespacedName]map[*Gateway]bool{}
	for _, route := range g.Routes {
		for _, service := range route.services() {
			for _, parent := range route.Parents {
				if through, _ := route.passes([]*Parent{parent}); through || !parent.Accepted {
					continue
				}
				if used[service] == nil {
					used[service] = map[*Gateway]bool{}
				}
				used[service][parent.Gateway] = true
			}
		}
	}
	for _, p := range all {
		gateways := map[*Gateway]bool{}
		for _, target := range p.targets() {
			maps.Copy(gateways, used[target.service])
		}
		p.Ancestors = slices.SortedFunc(maps.Keys(gateways), func(a, b *Gateway) int { return compareKeys(a.Key, b.Key) })
		if len(p.Ancestors) > 0 || p.hasStatus(controllerName) {
			g.Policies = append(g.Policies, p)
		}
	}
}

func (p *BackendTLSPolicy) hasStatus(controllerName string) bool {
	return slices.ContainsFunc(p.Source.Status.Ancestors, func(a gwv1.PolicyAncestorStatus) bool { return string(a.ControllerName) == controllerName })
}

// services are those that a route names as a backend, a mirror, or to ask.
func (r *Route) services() []types.NamespacedName {
	var services []types.NamespacedName
	add := func(key ClusterKey) {
		if key.Service != "" {
			services = append(services, types.NamespacedName{Namespace: key.Namespace, Name: key.Service})
		}
	}
	for _, rule := range r.Rules {
		for _, b := range rule.Backends {
			add(b.Cluster)
			if b.Filters.Auth != nil {
				add(b.Filters.Auth.Cluster)
			}
		}
		if rule.Filters.Auth != nil {
			add(rule.Filters.Auth.Cluster)
		}
		for _, m := range rule.Mirrors {
			add(m.Cluster)
		}
	}
	return services
}
