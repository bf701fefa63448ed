// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// TestAProxyConfigThatCannotWorkIsRefusedInASentence asks a real API server.
func TestAProxyConfigThatCannotWorkIsRefusedInASentence(t *testing.T) {
	e := start(t)
	for _, row := range []struct{ name, spec, want string }{
		{"nothing", `{}`, ""},
		{"everything of a Deployment", `
workload: Deployment
autoscaling: {minReplicas: 2, maxReplicas: 10, cpuUtilization: 70}
disruptionBudget: {maxUnavailable: 25%}
image: docker.io/envoyproxy/envoy:distroless-v1.40.0
imagePullSecrets: [registry]
resources: {requests: {cpu: 500m, memory: 256Mi}, limits: {memory: 2Gi}}
concurrency: 4
logLevel: Info
accessLog: {fields: {tenant: "%REQ(X-TENANT)%", user_agent: ""}, sample: 0.5%}
drain: {idle: 10s, max: 5m}
maxConnections: 20000
pod:
  nodeSelector: {pool: edge}
  tolerations: [{key: edge, operator: Exists}]
  topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule}]
  priorityClassName: system-cluster-critical
service:
  type: LoadBalancer
  annotations: {a: b}
  externalTrafficPolicy: Local
  loadBalancerClass: example.com/nlb
  loadBalancerSourceRanges: [10.0.0.0/8, "2001:db8::/32"]
bootstrap: {stats_flush_interval: 5s}
`, ""},
		{"a DaemonSet behind node ports", `{workload: DaemonSet, service: {type: NodePort, externalTrafficPolicy: Local}}`, ""},
		{"a workload that is none", `{workload: StatefulSet}`, `supported values: "Deployment", "DaemonSet"`},
		{"replicas and a range", `{replicas: 2, autoscaling: {maxReplicas: 3}}`, "give replicas (a fixed number) or autoscaling (a range), not both"},
		{"no replicas", `{replicas: 0}`, "should be greater than or equal to 1"},
		{"replicas of a DaemonSet", `{workload: DaemonSet, replicas: 2}`, "remove replicas and autoscaling, or write workload: Deployment"},
		{"a budget of a DaemonSet", `{workload: DaemonSet, disruptionBudget: {maxUnavailable: 1}}`, "remove disruptionBudget"},
		{"a range upside down", `{autoscaling: {minReplicas: 4, maxReplicas: 3}}`, "minReplicas must not be more than maxReplicas"},
		{"autoscaling without a request", `{autoscaling: {maxReplicas: 3}, resources: {limits: {memory: 1Gi}}}`, "set resources.requests.cpu"},
		{"a budget of nothing", `{disruptionBudget: {maxUnavailable: 0}}`, "with 0 no node could be drained"},
		{"a budget of no percent", `{disruptionBudget: {maxUnavailable: 0%}}`, "with 0 no node could be drained"},
		{"a budget that is no number", `{disruptionBudget: {maxUnavailable: most}}`, "write a number of at least 1, or a share such as 25%"},
		{"an image with a space", `{image: "envoy v1"}`, "write an image reference such as"},
		{"a level that is none", `{logLevel: Loud}`, "supported values"},
		{"fields and text", `{accessLog: {fields: {a: b}, text: x}}`, "give fields (for JSON) or text (for Text), not both"},
		{"text without its format", `{accessLog: {text: x}}`, "text belongs to format: Text"},
		{"the format without text", `{accessLog: {format: Text}}`, "format Text needs text"},
		{"fields of a text", `{accessLog: {format: Text, text: x, fields: {a: b}}}`, "not both"},
		{"a share that is none", `{accessLog: {sample: "0.1"}}`, "write a share of the requests such as 10% or 0.5%"},
		{"a share of too much", `{accessLog: {sample: 101%}}`, "write a share of the requests"},
		{"a drain of nothing", `{drain: {idle: 0s}}`, "write a duration from 3s to 1h"},
		{"a drain upside down", `{drain: {idle: 2m, max: 1m}}`, "idle must not be longer than max"},
		{"a Service that is none", `{service: {type: ExternalName}}`, `supported values: "LoadBalancer", "NodePort", "ClusterIP"`},
		{"a class without a load balancer", `{service: {type: ClusterIP, loadBalancerClass: a}}`, "belong to type: LoadBalancer"},
		{"a policy without outside", `{service: {type: ClusterIP, externalTrafficPolicy: Local}}`, "externalTrafficPolicy belongs to the types LoadBalancer and NodePort"},
		{"a range that is none", `{service: {loadBalancerSourceRanges: [10.0.0.1]}}`, "write ranges in CIDR notation"},
		{"a bootstrap that is a text", `{bootstrap: "x"}`, "spec.bootstrap in body must be of type object"},
		{"a misspelt field", `{replica: 2}`, `unknown field "spec.replica"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "headgate.dev/v1beta1", "kind": "ProxyConfig", "metadata": map[string]any{"generateName": "p-", "namespace": e.ns},
			}}
			var spec map[string]any
			if err := yaml.Unmarshal([]byte(row.spec), &spec); err != nil {
				t.Fatal(err)
			}
			o.Object["spec"] = spec
			err := e.Create(t.Context(), o, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict))
			switch {
			case row.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
				t.Errorf("the API server says %v, want %q", err, row.want)
			}
		})
	}
}
