// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/e2e/load"
)

// A plain rolling update of the sample app, seen by a client outside the cluster:
// it proves what every scenario builds on, down to "no request is lost", so that
// a failure in a scenario is a failure of what the scenario tests.
func TestSampleAppRollsWithoutLosingARequest(t *testing.T) {
	c := ForTest(t)
	s := c.SpaceForTest(t, "ground")
	ctx := t.Context()
	app := App{Name: "shop", Replicas: 2, Version: "v1", Service: "LoadBalancer"}
	if err := s.DeployApp(ctx, app); err != nil {
		t.Fatal(err)
	}
	_, err := s.InstallPrometheus(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WaitRolledOut(ctx, app.Name, time.Minute); err != nil {
		t.Fatal(err)
	}
	address, err := s.LoadBalancer(ctx, app.Name)
	if err != nil {
		t.Fatal(err)
	}

	run, err := load.Begin(ctx, load.Options{URL: "http://" + address + "/cart", Rate: 50, Duration: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	app.Version = "v2"
	if err := s.DeployApp(ctx, app); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitRolledOut(ctx, app.Name, time.Minute); err != nil {
		t.Fatal(err)
	}
	time.Sleep(7 * time.Second) // the old pods drain for 5 s
	report := run.Stop()
	t.Log(report)
	if report.NotCaused() > 0 || report.Versions["v1"].Requests == 0 || report.Versions["v2"].Requests == 0 {
		t.Errorf("want answers of v1 and v2 and no failure on the way; got\n%s", report)
	}

	query := fmt.Sprintf(`sum by (version) (app_requests_total{namespace=%q,pod=~"shop-.+"})`, s.Name)
	if got := s.countPerVersion(t, query); got["v2"] == 0 {
		t.Errorf("Prometheus counted %v requests by version; want some of v2", got)
	}
}

// countPerVersion asks Prometheus through the API server, which also works where
// Service addresses are not reachable from the test.
func (s *Space) countPerVersion(t *testing.T, query string) map[string]float64 {
	t.Helper()
	counts := map[string]float64{}
	err := s.Wait(t.Context(), "samples in Prometheus", 20*time.Second, func(ctx context.Context) (bool, string, error) {
		data, err := s.Clientset.CoreV1().Services(s.Name).ProxyGet("http", "prometheus", "9090", "/api/v1/query", map[string]string{"query": query}).DoRaw(ctx)
		if err != nil {
			return false, "", err
		}
		var answer struct {
			Data struct {
				Result []struct {
					Metric map[string]string
					Value  [2]any
				}
			}
		}
		if err := json.Unmarshal(data, &answer); err != nil {
			return false, "", err
		}
		for _, result := range answer.Data.Result {
			var n float64
			if _, err := fmt.Sscan(fmt.Sprint(result.Value[1]), &n); err != nil {
				return false, "", err
			}
			counts[result.Metric["version"]] = n
		}
		return counts["v2"] > 0, string(data), nil
	})
	if err != nil {
		t.Error(err)
	}
	return counts
}

// The admission policy that holds releases relies on this: a mutating policy in
// CEL takes effect on an UPDATE whose template changed, and on no other.
func TestMutatingAdmissionPolicyPausesAnUpdate(t *testing.T) {
	c := ForTest(t)
	s := c.SpaceForTest(t, "ground")
	ctx := t.Context()
	const policy = `apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: %[1]s}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [UPDATE], resources: [deployments]}]
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[1]s}}
  matchConditions: [{name: template-changed, expression: "object.spec.template != oldObject.spec.template"}]
  failurePolicy: Fail
  reinvocationPolicy: Never
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: "Object{spec: Object.spec{paused: true}}"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: %[1]s}
spec: {policyName: %[1]s}
`
	if err := s.Apply(ctx, fmt.Sprintf(policy, s.Name)); err != nil {
		t.Fatal(err)
	}
	app := App{Name: "shop", Replicas: 1, Version: "0"}
	// The API server takes a moment to see a new policy, so versions are applied until it holds one.
	err := s.Wait(ctx, "an update to be paused", 30*time.Second, func(ctx context.Context) (bool, string, error) {
		app.Version += "0"
		if err := s.DeployApp(ctx, app); err != nil {
			return false, "", err
		}
		paused, err := s.paused(ctx, app.Name)
		return paused, "spec.paused is not set", err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *Space) paused(ctx context.Context, name string) (bool, error) {
	d, err := s.Clientset.AppsV1().Deployments(s.Name).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return false, err
	}
	return d.Spec.Paused, nil
}

// A pod finds a Service by name: the app's readiness is not needed for it, so the
// pod network, cluster DNS and the Service network are what is proved.
func TestPodsResolveServices(t *testing.T) {
	c := ForTest(t)
	s := c.SpaceForTest(t, "ground")
	ctx := t.Context()
	if err := s.DeployApp(ctx, App{Name: "shop", Replicas: 1, Version: "v1"}); err != nil {
		t.Fatal(err)
	}
	image, err := s.Image(ctx, "envoy")
	if err != nil {
		t.Fatal(err)
	}
	const proxy = `apiVersion: v1
kind: ConfigMap
metadata: {name: proxy}
data:
  envoy.yaml: |
    static_resources:
      listeners:
      - address: {socket_address: {address: 0.0.0.0, port_value: 8080}}
        filter_chains:
        - filters:
          - name: envoy.filters.network.http_connection_manager
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
              stat_prefix: http
              http_filters: [{name: envoy.filters.http.router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
              route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: shop}}]}]}
      clusters:
      - name: shop
        type: STRICT_DNS
        load_assignment: {cluster_name: shop, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: shop.%s, port_value: 80}}}}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: proxy}
spec:
  containers:
  - name: envoy
    image: %s
    args: [-c, /etc/envoy/envoy.yaml, --concurrency, "1"]
    securityContext: {runAsNonRoot: true, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: config, mountPath: /etc/envoy}]
  volumes: [{name: config, configMap: {name: proxy}}]
`
	if err := s.Apply(ctx, fmt.Sprintf(proxy, s.Name, image)); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitRolledOut(ctx, "shop", time.Minute); err != nil {
		t.Fatal(err)
	}
	err = s.Wait(ctx, "an answer through the proxy", time.Minute, func(ctx context.Context) (bool, string, error) {
		var pod corev1.Pod
		if err := s.Client.Get(ctx, client.ObjectKey{Namespace: s.Name, Name: "proxy"}, &pod); err != nil {
			return false, "", err
		}
		if pod.Status.Phase != corev1.PodRunning {
			return false, "pod is " + string(pod.Status.Phase), nil
		}
		data, err := s.Clientset.CoreV1().RESTClient().Get().Namespace(s.Name).Resource("pods").Name("proxy:8080").SubResource("proxy").Suffix("hello").DoRaw(ctx)
		var answer struct{ Version, Path string }
		_ = json.Unmarshal(data, &answer)
		if err != nil {
			return false, err.Error() + " " + string(data), nil
		}
		return answer.Version == "v1" && answer.Path == "/hello", string(data), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
