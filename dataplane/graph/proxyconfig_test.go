// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
)

// withConfigs builds the graph of a Gateway and its class, each with or without a
// reference to parameters, and the ProxyConfigs class and own.
func withConfigs(t *testing.T, classRef, ref, class, own string) *graph.Graph {
	t.Helper()
	docs := []string{
		"kind: GatewayClass\nmetadata: {name: headgate}\nspec: {controllerName: headgate.dev/gateway-controller" + classRef + "}",
		"kind: Gateway\nmetadata: {name: web, namespace: shop}\nspec: {gatewayClassName: headgate" + ref + ", listeners: [{name: http, port: 80, protocol: HTTP}]}",
	}
	if class != "" {
		docs = append(docs, "kind: ProxyConfig\nmetadata: {name: class, namespace: headgate-system}\nspec: "+class)
	}
	if own != "" {
		docs = append(docs, "kind: ProxyConfig\nmetadata: {name: own, namespace: shop}\nspec: "+own)
	}
	r, _, err := goldens.Parse([]byte(strings.Join(docs, "\n---\n")))
	if err != nil {
		t.Fatal(err)
	}
	return graph.Build(r)
}

const (
	classRef = `, parametersRef: {group: headgate.dev, kind: ProxyConfig, name: class, namespace: headgate-system}`
	ownRef   = `, infrastructure: {parametersRef: {group: headgate.dev, kind: ProxyConfig, name: own}}`
)

func TestParametersThatCannotBeUsed(t *testing.T) {
	gateway, class := "Gateway", "GatewayClass"
	for _, row := range []struct{ name, classRef, ref, class, own, where, want string }{
		{"none", "", "", "", "", gateway, ""},
		{"both", classRef, ownRef, `{}`, `{}`, gateway, ""},
		{"another kind", "", `, infrastructure: {parametersRef: {group: "", kind: ConfigMap, name: own}}`, "", "", gateway, `names ConfigMap "own" of group "": name a ProxyConfig of group headgate.dev, or remove it`},
		{"another kind, of a class", `, parametersRef: {group: "", kind: ConfigMap, name: own, namespace: shop}`, "", "", "", class, "name a ProxyConfig of group headgate.dev"},
		{"a name without an object", "", ownRef, "", "", gateway, "there is no ProxyConfig shop/own: create it, or correct the name"},
		{"a name without an object, of a class", classRef, "", "", "", class, "there is no ProxyConfig headgate-system/class"},
		{"no namespace", `, parametersRef: {group: headgate.dev, kind: ProxyConfig, name: class}`, "", `{}`, "", class, "spec.parametersRef.namespace is missing"},
		{"a bootstrap that Envoy refuses", "", ownRef, "", `{bootstrap: {nothing: 1}}`, gateway, `ProxyConfig shop/own: spec.bootstrap: (line`},
		{"a bootstrap that leads away", classRef, "", `{bootstrap: {node: {id: a}}}`, "", class, "node names the proxy to Headgate: remove it"},
		{"an operator that is none", "", ownRef, "", `{accessLog: {fields: {a: "%NOTHING%"}}}`, gateway, "spec.accessLog.fields[a]: %NOTHING% is not a command operator"},
		{"an operator without its argument", "", ownRef, "", `{accessLog: {fields: {a: "%REQ%"}}}`, gateway, "%REQ% needs an argument: write %REQ(NAME)%"},
		{"an operator with an argument too many", "", ownRef, "", `{accessLog: {fields: {a: "%DURATION(x)%"}}}`, gateway, "%DURATION% takes no argument: remove (x)"},
		{"a percent sign alone", "", ownRef, "", `{accessLog: {format: Text, text: "100% sure"}}`, gateway, `spec.accessLog.text: "% sure" is not a command operator`},
		{"two percent signs", "", ownRef, "", `{accessLog: {format: Text, text: "100%% %REQ(A?B):10% %START_TIME(%s)%"}}`, gateway, ""},
		{"a third header", "", ownRef, "", `{accessLog: {fields: {a: "%REQ(A?B?C)%"}}}`, gateway, "%REQ(A?B?C)% does not name a header: write %REQ(NAME)%"},
		{"an argument that is not known", "", ownRef, "", `{accessLog: {fields: {a: "%PATH(X)%"}}}`, gateway, `write one of WQ, NQ in place of "X"`},
		{"a length of what has none", "", ownRef, "", `{accessLog: {fields: {a: "%DURATION:5%"}}}`, gateway, "%DURATION% cannot be cut to a length: remove :5"},
		{"replicas over a DaemonSet", classRef, ownRef, `{workload: DaemonSet}`, `{replicas: 2}`, gateway, "the GatewayClass asks for a DaemonSet"},
		{"replicas and another workload over it", classRef, ownRef, `{workload: DaemonSet}`, `{workload: Deployment, replicas: 2}`, gateway, ""},
		{"autoscaling over resources without a request", classRef, ownRef, `{resources: {}}`, `{autoscaling: {maxReplicas: 2}}`, gateway, "set resources.requests.cpu"},
		{"a policy over a Service without outside", classRef, ownRef, `{service: {type: ClusterIP}}`, `{service: {externalTrafficPolicy: Local}}`, gateway, "the GatewayClass asks for a Service of type ClusterIP"},
		{"a load balancer's fields over node ports", classRef, ownRef, `{service: {type: NodePort}}`, `{service: {loadBalancerClass: a}}`, gateway, "the GatewayClass asks for a Service of type NodePort"},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := withConfigs(t, row.classRef, row.ref, row.class, row.own)
			problems, valid, reason := g.Gateways[0].Problems, g.Gateways[0].Valid, string(gwv1.GatewayReasonInvalidParameters)
			if row.where == class {
				problems, valid, reason = g.Classes[0].Problems, g.Classes[0].Valid, string(gwv1.GatewayClassReasonInvalidParameters)
			}
			if row.want == "" {
				if !valid || len(problems) > 0 {
					t.Errorf("problems: %+v", problems)
				}
				return
			}
			if valid || len(problems) != 1 || problems[0].Reason != reason || !strings.Contains(problems[0].Message, row.want) {
				t.Errorf("valid: %v, problems: %+v, want %q", valid, problems, row.want)
			}
		})
	}
}

func TestTheGatewaysOwnProxyConfigWinsFieldByField(t *testing.T) {
	read := func(text string) v1beta1.ProxyConfigSpec {
		var out v1beta1.ProxyConfigSpec
		if err := yaml.UnmarshalStrict([]byte(text), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, row := range []struct{ name, own, class, want string }{
		{"each says something", `{concurrency: 1}`, `{logLevel: Info, concurrency: 2}`, `{concurrency: 1, logLevel: Info}`},
		{"a fixed number over a range", `{replicas: 3}`, `{autoscaling: {maxReplicas: 9}}`, `{replicas: 3}`},
		{"a range over a fixed number", `{autoscaling: {maxReplicas: 9}}`, `{replicas: 3}`, `{autoscaling: {maxReplicas: 9}}`},
		{"a DaemonSet over a number and a budget", `{workload: DaemonSet}`, `{replicas: 3, disruptionBudget: {maxUnavailable: 2}}`, `{workload: DaemonSet}`},
		{"lists and maps whole", `{pod: {nodeSelector: {a: b}, tolerations: []}}`, `{pod: {nodeSelector: {c: d}, tolerations: [{key: x}], priorityClassName: p}}`, `{pod: {nodeSelector: {a: b}, tolerations: [], priorityClassName: p}}`},
		{"the access log whole", `{accessLog: {sample: 1%}}`, `{accessLog: {fields: {a: b}}}`, `{accessLog: {sample: 1%}}`},
		{"a Service in parts", `{service: {annotations: {a: b}}}`, `{service: {type: LoadBalancer, annotations: {c: d}, loadBalancerClass: l}}`, `{service: {type: LoadBalancer, annotations: {a: b}, loadBalancerClass: l}}`},
		{"a Service of another type", `{service: {type: ClusterIP}}`, `{service: {externalTrafficPolicy: Local, loadBalancerClass: l}}`, `{service: {type: ClusterIP}}`},
		{"a drain in parts", `{drain: {idle: 5s}}`, `{drain: {idle: 9s, max: 20s}}`, `{drain: {idle: 5s, max: 20s}}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := withConfigs(t, classRef, ownRef, row.class, row.own)
			if diff := cmp.Diff(read(row.want), g.Gateways[0].Proxy); diff != "" || !g.Gateways[0].Valid {
				t.Errorf("valid: %v (-want +got):\n%s", g.Gateways[0].Valid, diff)
			}
		})
	}
}
