// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package infra

import (
	"testing"

	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
)

// configured are the options with a ProxyConfig over the defaults.
func configured(t *testing.T, spec string) Options {
	t.Helper()
	var own v1beta1.ProxyConfigSpec
	if err := yaml.UnmarshalStrict([]byte(spec), &own); err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Proxy = graph.MergeProxy(own, o.Proxy)
	return o
}

const everything = `
autoscaling: {minReplicas: 2, maxReplicas: 10, cpuUtilization: 70}
disruptionBudget: {maxUnavailable: 25%}
image: registry.example.com/envoy:v1
imagePullSecrets: [registry]
resources: {requests: {cpu: 500m, memory: 256Mi}, limits: {memory: 2Gi}}
concurrency: 4
logLevel: Info
drain: {idle: 10s, max: 2m}
pod:
  nodeSelector: {pool: edge}
  tolerations: [{key: edge, operator: Exists}]
  affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {a: b}}}]}}
  topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule}]
  priorityClassName: system-cluster-critical
service:
  annotations: {example.com/load-balancer: internal}
  externalTrafficPolicy: Local
  loadBalancerClass: example.com/nlb
  loadBalancerSourceRanges: [10.0.0.0/8]
  allocateLoadBalancerNodePorts: false
`

func TestEveryFieldOfAProxyConfig(t *testing.T) {
	golden(t, "everything.yaml", For(web(t, nil), configured(t, everything)))
}

func TestADaemonSet(t *testing.T) {
	golden(t, "daemonset.yaml", For(web(t, nil), configured(t, `
workload: DaemonSet
pod: {nodeSelector: {pool: edge}}
service: {type: NodePort, externalTrafficPolicy: Local}
`)))
}

func TestWhoseTheNumberOfReplicasIs(t *testing.T) {
	for _, row := range []struct {
		name, spec string
		want       *int32
	}{
		{"nobody's at first: whoever scales", `{}`, nil},
		{"ours where it is fixed", `{replicas: 3}`, new(int32(3))},
		{"the autoscaler's", `{autoscaling: {maxReplicas: 5}}`, nil},
	} {
		got := For(web(t, nil), configured(t, row.spec)).Deployment.Spec.Replicas
		if (got == nil) != (row.want == nil) || got != nil && *got != *row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}

func TestADrainOfIdleConnectionsIsNeverTheLongerOne(t *testing.T) {
	idle, longest := drainSeconds(configured(t, `{drain: {max: 5s}}`).Proxy.Drain)
	if idle != 5 || longest != 5 {
		t.Errorf("idle connections have %ds, requests %ds", idle, longest)
	}
}

func TestAProxyRefusesWorkBelowItsMemoryLimit(t *testing.T) {
	if got := MaxHeapBytes(configured(t, everything).Proxy); got == 0 || got >= 2<<30 {
		t.Errorf("it begins at %d of %d bytes", got, 2<<30)
	}
	if got := MaxHeapBytes(configured(t, `{resources: {}}`).Proxy); got != 0 {
		t.Errorf("without a limit it begins at %d bytes", got)
	}
}
