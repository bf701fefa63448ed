// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/bootstrap"
)

// proxyConfigs are those of the cluster.
type proxyConfigs map[types.NamespacedName]*v1beta1.ProxyConfig

// kindProxyConfig is the kind that parametersRef may name.
const kindProxyConfig = "ProxyConfig"

// ofClass gives the defaults for all Gateways of a class.
func (c proxyConfigs) ofClass(ref *gwv1.ParametersReference) (v1beta1.ProxyConfigSpec, []Problem) {
	const field = "spec.parametersRef"
	if ref == nil {
		return v1beta1.ProxyConfigSpec{}, nil
	}
	if string(ref.Group) != v1beta1.GroupVersion.Group || ref.Kind != kindProxyConfig {
		return v1beta1.ProxyConfigSpec{}, []Problem{classParametersInvalid(parametersUnsupported(field, string(ref.Group), string(ref.Kind), ref.Name))}
	}
	if ref.Namespace == nil {
		return v1beta1.ProxyConfigSpec{}, []Problem{classParametersInvalid(field + ".namespace is missing: write the namespace of the ProxyConfig")}
	}
	spec, texts := c.read(field, types.NamespacedName{Namespace: string(*ref.Namespace), Name: ref.Name})
	return spec, problemsOf(texts, classParametersInvalid)
}

// ofGateway gives how the proxies of a Gateway run, the defaults of its class included.
func (c proxyConfigs) ofGateway(src *gwv1.Gateway, class v1beta1.ProxyConfigSpec) (v1beta1.ProxyConfigSpec, []Problem) {
	const field = "spec.infrastructure.parametersRef"
	if src.Spec.Infrastructure == nil || src.Spec.Infrastructure.ParametersRef == nil {
		return class, nil
	}
	ref := src.Spec.Infrastructure.ParametersRef
	if string(ref.Group) != v1beta1.GroupVersion.Group || ref.Kind != kindProxyConfig {
		return class, []Problem{gatewayParametersInvalid(parametersUnsupported(field, string(ref.Group), string(ref.Kind), ref.Name))}
	}
	key := types.NamespacedName{Namespace: src.Namespace, Name: ref.Name}
	own, texts := c.read(field, key)
	if len(texts) > 0 {
		return class, problemsOf(texts, gatewayParametersInvalid)
	}
	merged := MergeProxy(own, class)
	for _, text := range clashes(own, merged) {
		texts = append(texts, fmt.Sprintf("%s: ProxyConfig %s: %s", field, key, text))
	}
	return merged, problemsOf(texts, gatewayParametersInvalid)
}

func problemsOf(texts []string, problem func(string) Problem) []Problem {
	var problems []Problem
	for _, text := range texts {
		problems = append(problems, problem(text))
	}
	return problems
}

// read gives one ProxyConfig and what its schema could not find wrong with it.
func (c proxyConfigs) read(field string, key types.NamespacedName) (v1beta1.ProxyConfigSpec, []string) {
	config := c[key]
	if config == nil {
		return v1beta1.ProxyConfigSpec{}, []string{fmt.Sprintf("%s: there is no ProxyConfig %s: create it, or correct the name", field, key)}
	}
	var texts []string
	if b := config.Spec.Bootstrap; b != nil {
		if _, err := bootstrap.Parse(b.Raw); err != nil {
			texts = append(texts, fmt.Sprintf("%s: ProxyConfig %s: spec.bootstrap: %v", field, key, err))
		}
	}
	for _, text := range AccessLogProblems(config.Spec.AccessLog) {
		texts = append(texts, fmt.Sprintf("%s: ProxyConfig %s: %s", field, key, text))
	}
	return config.Spec, texts
}

// clashes tells what a Gateway's own ProxyConfig asks for and cannot have, because of
// what its class's says.
func clashes(own, merged v1beta1.ProxyConfigSpec) []string {
	var texts []string
	if merged.Workload == v1beta1.WorkloadDaemonSet && (own.Replicas != nil || own.Autoscaling != nil || own.DisruptionBudget != nil) {
		texts = append(texts, "the GatewayClass asks for a DaemonSet, which has no replicas, autoscaling and disruptionBudget: write workload: Deployment, or remove them")
	}
	if merged.Autoscaling != nil && merged.Resources != nil && merged.Resources.Requests.Cpu().IsZero() {
		texts = append(texts, "autoscaling compares the use of CPU with what is requested: set resources.requests.cpu")
	}
	if s, m := own.Service, merged.Service; s != nil {
		if m.Type == corev1.ServiceTypeClusterIP && s.ExternalTrafficPolicy != "" {
			texts = append(texts, "the GatewayClass asks for a Service of type ClusterIP: write service.type too, or remove service.externalTrafficPolicy")
		}
		if m.Type != "" && m.Type != corev1.ServiceTypeLoadBalancer && forLoadBalancers(*s) {
			texts = append(texts, fmt.Sprintf(
				"the GatewayClass asks for a Service of type %s: write service.type: LoadBalancer too, or remove service's fields for load balancers", m.Type))
		}
	}
	return texts
}

func forLoadBalancers(s v1beta1.ProxyService) bool {
	return s.LoadBalancerClass != nil || s.LoadBalancerSourceRanges != nil || s.AllocateLoadBalancerNodePorts != nil
}

// MergeProxy gives, field by field, what over says and where it says nothing what
// under does. Lists, maps, resources and the access log are taken whole. What of under
// makes no sense with what over says, is left out: its replicas with a DaemonSet for example.
func MergeProxy(over, under v1beta1.ProxyConfigSpec) v1beta1.ProxyConfigSpec {
	scaled := over.Replicas != nil || over.Autoscaling != nil || over.Workload == v1beta1.WorkloadDaemonSet
	out := v1beta1.ProxyConfigSpec{
		Workload:         cmp.Or(over.Workload, under.Workload),
		Replicas:         over.Replicas,
		Autoscaling:      over.Autoscaling,
		DisruptionBudget: over.DisruptionBudget,
		Image:            cmp.Or(over.Image, under.Image),
		ImagePullSecrets: orList(over.ImagePullSecrets, under.ImagePullSecrets),
		Resources:        cmp.Or(over.Resources, under.Resources),
		Concurrency:      cmp.Or(over.Concurrency, under.Concurrency),
		LogLevel:         cmp.Or(over.LogLevel, under.LogLevel),
		AccessLog:        cmp.Or(over.AccessLog, under.AccessLog),
		Drain:            mergeDrain(over.Drain, under.Drain),
		MaxConnections:   cmp.Or(over.MaxConnections, under.MaxConnections),
		Pod:              mergePod(over.Pod, under.Pod),
		Service:          mergeService(over.Service, under.Service),
		Bootstrap:        cmp.Or(over.Bootstrap, under.Bootstrap),
	}
	if !scaled {
		out.Replicas, out.Autoscaling = under.Replicas, under.Autoscaling
	}
	if over.DisruptionBudget == nil && over.Workload != v1beta1.WorkloadDaemonSet {
		out.DisruptionBudget = under.DisruptionBudget
	}
	return out
}

func orList[T any](over, under []T) []T {
	if over != nil {
		return over
	}
	return under
}

func orMap[M ~map[K]V, K comparable, V any](over, under M) M {
	if over != nil {
		return over
	}
	return under
}

func mergeDrain(over, under *v1beta1.Drain) *v1beta1.Drain {
	if over == nil || under == nil {
		return cmp.Or(over, under)
	}
	return &v1beta1.Drain{Idle: cmp.Or(over.Idle, under.Idle), Max: cmp.Or(over.Max, under.Max)}
}

func mergePod(over, under *v1beta1.PodPlacement) *v1beta1.PodPlacement {
	if over == nil || under == nil {
		return cmp.Or(over, under)
	}
	return &v1beta1.PodPlacement{
		NodeSelector:              orMap(over.NodeSelector, under.NodeSelector),
		Tolerations:               orList(over.Tolerations, under.Tolerations),
		Affinity:                  cmp.Or(over.Affinity, under.Affinity),
		TopologySpreadConstraints: orList(over.TopologySpreadConstraints, under.TopologySpreadConstraints),
		PriorityClassName:         cmp.Or(over.PriorityClassName, under.PriorityClassName),
	}
}

func mergeService(over, under *v1beta1.ProxyService) *v1beta1.ProxyService {
	if over == nil || under == nil {
		return cmp.Or(over, under)
	}
	out := &v1beta1.ProxyService{
		Type:                          cmp.Or(over.Type, under.Type),
		Annotations:                   orMap(over.Annotations, under.Annotations),
		ExternalTrafficPolicy:         over.ExternalTrafficPolicy,
		LoadBalancerClass:             over.LoadBalancerClass,
		LoadBalancerSourceRanges:      over.LoadBalancerSourceRanges,
		AllocateLoadBalancerNodePorts: over.AllocateLoadBalancerNodePorts,
	}
	if over.Type != corev1.ServiceTypeClusterIP {
		out.ExternalTrafficPolicy = cmp.Or(over.ExternalTrafficPolicy, under.ExternalTrafficPolicy)
	}
	if over.Type == "" || over.Type == corev1.ServiceTypeLoadBalancer {
		out.LoadBalancerClass = cmp.Or(over.LoadBalancerClass, under.LoadBalancerClass)
		out.LoadBalancerSourceRanges = orList(over.LoadBalancerSourceRanges, under.LoadBalancerSourceRanges)
		out.AllocateLoadBalancerNodePorts = cmp.Or(over.AllocateLoadBalancerNodePorts, under.AllocateLoadBalancerNodePorts)
	}
	return out
}
