// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
)

// configure creates the ProxyConfig "edge", or gives it another spec.
func (e *env) configure(spec string) {
	e.Helper()
	config := &v1beta1.ProxyConfig{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: "edge"}}
	err := e.get("edge", config)
	config.Spec = v1beta1.ProxyConfigSpec{}
	if err := yaml.UnmarshalStrict([]byte(spec), &config.Spec); err != nil {
		e.Fatal(err)
	}
	if apierrors.IsNotFound(err) {
		e.must(e.Create(e.Context(), config))
		return
	}
	e.must(err)
	e.must(e.Update(e.Context(), config))
}

func refersToEdge(gw *gwv1.Gateway) {
	gw.Spec.Infrastructure = &gwv1.GatewayInfrastructure{
		ParametersRef: &gwv1.LocalParametersReference{Group: "headgate.dev", Kind: "ProxyConfig", Name: "edge"},
	}
}

// has waits until an object passes a check.
func has[T client.Object](e *env, what, name string, into T, check func(T) bool) {
	e.Helper()
	e.eventually(what, func() string {
		if err := e.get(name, into); err != nil {
			return err.Error()
		}
		if !check(into) {
			return fmt.Sprintf("%+v", into)
		}
		return ""
	})
}

func TestAProxyConfigIsFollowedAndAWrongOneChangesNothing(t *testing.T) {
	e := start(t)
	e.configure(`{replicas: 3, logLevel: Info}`)
	e.gateway("web", refersToEdge)
	e.serve("web")
	e.gatewayHas("web", "Programmed=True Programmed")
	name := "web-" + e.ns
	has(e, "three replicas", name, &appsv1.Deployment{}, func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 3 })
	e.configure(`{replicas: 4, bootstrap: {admin: {}}}`)
	e.gatewayHas("web", "Accepted=False InvalidParameters")
	e.configure(`{replicas: 2}`)
	e.gatewayHas("web", "Accepted=True Accepted")
	d := &appsv1.Deployment{}
	has(e, "two replicas", name, d, func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 2 })
	config := &v1beta1.ProxyConfig{}
	e.must(e.get("edge", config))
	e.must(e.Delete(t.Context(), config))
	e.gatewayHas("web", "Accepted=False InvalidParameters")
	e.must(e.get(name, d))
	if *d.Spec.Replicas != 2 {
		t.Errorf("%d replicas: without its ProxyConfig the Gateway was set up anew", *d.Spec.Replicas)
	}
	gw := &gwv1.Gateway{}
	e.must(e.get("web", gw))
	gw.Spec.Infrastructure = nil
	e.must(e.Update(t.Context(), gw))
	e.gatewayHas("web", "Accepted=True Accepted")
}

func TestDefaultsOfAClass(t *testing.T) {
	e := start(t)
	e.configure(`{replicas: 2}`)
	class := &gwv1.GatewayClass{}
	e.must(e.Get(t.Context(), client.ObjectKey{Name: e.ns}, class))
	namespace := gwv1.Namespace(e.ns)
	class.Spec.ParametersRef = &gwv1.ParametersReference{Group: "headgate.dev", Kind: "ProxyConfig", Name: "edge", Namespace: &namespace}
	e.must(e.Update(t.Context(), class))
	e.gateway("web", nil)
	has(e, "the class's replicas", "web-"+e.ns, &appsv1.Deployment{}, func(d *appsv1.Deployment) bool {
		return d.Spec.Replicas != nil && *d.Spec.Replicas == 2
	})
	config := &v1beta1.ProxyConfig{}
	e.must(e.get("edge", config))
	e.must(e.Delete(t.Context(), config))
	e.condition("the class", "Accepted=False InvalidParameters", func() (int64, []metav1.Condition, error) {
		err := e.Get(t.Context(), client.ObjectKey{Name: e.ns}, class)
		return class.Generation, class.Status.Conditions, err
	})
}

func TestTheAutoscalerTakesTheReplicasOverAsTheyAre(t *testing.T) {
	e := start(t)
	e.configure(`{replicas: 5}`)
	e.gateway("web", refersToEdge)
	name := "web-" + e.ns
	d := &appsv1.Deployment{}
	has(e, "five replicas", name, d, func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 5 })

	e.configure(`{autoscaling: {minReplicas: 2, maxReplicas: 9}}`)
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	has(e, "the autoscaler", name, hpa, func(h *autoscalingv2.HorizontalPodAutoscaler) bool { return h.Spec.MaxReplicas == 9 })
	e.must(e.get(name, d))
	if *d.Spec.Replicas != 5 {
		t.Fatalf("%d replicas: turning autoscaling on has scaled", *d.Spec.Replicas)
	}
	scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 7}}
	e.must(e.SubResource("scale").Update(t.Context(), d, client.WithSubResourceBody(scale)))
	e.configure(`{autoscaling: {minReplicas: 3, maxReplicas: 9}}`)
	has(e, "the new range", name, hpa, func(h *autoscalingv2.HorizontalPodAutoscaler) bool { return *h.Spec.MinReplicas == 3 })
	e.must(e.get(name, d))
	if *d.Spec.Replicas != 7 {
		t.Errorf("%d replicas, want the 7 that the autoscaler has set", *d.Spec.Replicas)
	}

	e.configure(`{replicas: 4}`)
	has(e, "four replicas", name, d, func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 4 })
	e.gone(name, hpa)

	e.configure(`{}`)
	e.configure(`{logLevel: Info}`)
	has(e, "another level", name, d, func(d *appsv1.Deployment) bool {
		return fmt.Sprint(d.Spec.Template.Spec.Containers[0].Args) != "" && contains(d.Spec.Template.Spec.Containers[0].Args, "info")
	})
	if *d.Spec.Replicas != 4 {
		t.Errorf("%d replicas: saying nothing about the number has scaled", *d.Spec.Replicas)
	}
}

func contains(list []string, want string) bool {
	for _, s := range list {
		if s == want {
			return true
		}
	}
	return false
}

func TestADeploymentStaysUntilTheDaemonSetServes(t *testing.T) {
	e := start(t)
	e.configure(`{autoscaling: {maxReplicas: 3}}`)
	e.gateway("web", refersToEdge)
	e.serve("web")
	e.gatewayHas("web", "Programmed=True Programmed")
	name := "web-" + e.ns
	e.configure(`{workload: DaemonSet}`)
	set := &appsv1.DaemonSet{}
	has(e, "the DaemonSet", name, set, func(*appsv1.DaemonSet) bool { return true })
	e.gone(name, &autoscalingv2.HorizontalPodAutoscaler{})
	e.gone(name, &policyv1.PodDisruptionBudget{})
	e.must(e.get(name, &appsv1.Deployment{}))

	set.Status = appsv1.DaemonSetStatus{
		ObservedGeneration: set.Generation, DesiredNumberScheduled: 2, CurrentNumberScheduled: 2, UpdatedNumberScheduled: 2, NumberReady: 1,
	}
	e.must(e.Status().Update(t.Context(), set))
	e.gatewayHas("web", "Programmed=True Programmed")
	e.must(e.get(name, &appsv1.Deployment{}))
	set.Status.NumberReady = 2
	e.must(e.Status().Update(t.Context(), set))
	e.gone(name, &appsv1.Deployment{})

	e.configure(`{}`)
	e.serve("web")
	e.eventually("the Deployment is complete", func() string {
		d := &appsv1.Deployment{}
		if err := e.get(name, d); err != nil {
			return err.Error()
		}
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1}
		if err := e.Status().Update(t.Context(), d); err != nil {
			return err.Error()
		}
		return ""
	})
	e.gone(name, &appsv1.DaemonSet{})
}

func TestWithoutALoadBalancerTheAddressIsTheClustersOwn(t *testing.T) {
	e := start(t)
	e.configure(`{service: {type: ClusterIP}}`)
	e.gateway("web", refersToEdge)
	s := &corev1.Service{}
	has(e, "the Service", "web-"+e.ns, s, func(s *corev1.Service) bool { return s.Spec.ClusterIP != "" })
	e.eventually("the Gateway has its address", func() string {
		gw := &gwv1.Gateway{}
		if err := e.get("web", gw); err != nil {
			return err.Error()
		}
		if len(gw.Status.Addresses) != 1 || gw.Status.Addresses[0].Value != s.Spec.ClusterIP {
			return fmt.Sprintf("addresses = %+v, want %s", gw.Status.Addresses, s.Spec.ClusterIP)
		}
		return ""
	})
}

// TestWhatSomebodyChangesByHandIsRepaired changes each kind of object, and deletes it.
func TestWhatSomebodyChangesByHandIsRepaired(t *testing.T) {
	e := start(t)
	e.configure(`{autoscaling: {minReplicas: 2, maxReplicas: 3}}`)
	e.gateway("web", refersToEdge)
	e.gateway("every", func(gw *gwv1.Gateway) {
		gw.Spec.Infrastructure = &gwv1.GatewayInfrastructure{
			ParametersRef: &gwv1.LocalParametersReference{Group: "headgate.dev", Kind: "ProxyConfig", Name: "nodes"},
		}
	})
	nodes := &v1beta1.ProxyConfig{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: "nodes"}, Spec: v1beta1.ProxyConfigSpec{Workload: v1beta1.WorkloadDaemonSet}}
	e.must(e.Create(t.Context(), nodes))
	name := "web-" + e.ns
	for _, row := range []struct {
		name    string
		object  client.Object
		harm    func(client.Object)
		is      func(client.Object) bool
		another string
	}{
		{
			"ServiceAccount", &corev1.ServiceAccount{}, func(o client.Object) { o.(*corev1.ServiceAccount).AutomountServiceAccountToken = new(true) },
			func(o client.Object) bool { return !*o.(*corev1.ServiceAccount).AutomountServiceAccountToken }, "",
		},
		{
			"ConfigMap", &corev1.ConfigMap{}, func(o client.Object) { o.(*corev1.ConfigMap).Data["bootstrap.json"] = "{}" },
			func(o client.Object) bool { return len(o.(*corev1.ConfigMap).Data["bootstrap.json"]) > 2 }, "",
		},
		{
			"Secret", &corev1.Secret{}, func(o client.Object) { o.(*corev1.Secret).Data["ca.crt"] = []byte("x") },
			func(o client.Object) bool { return len(o.(*corev1.Secret).Data["ca.crt"]) > 1 }, "",
		},
		{
			"Deployment", &appsv1.Deployment{}, func(o client.Object) { o.(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Image = "x" },
			func(o client.Object) bool {
				return o.(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Image == "envoy:test"
			}, "",
		},
		{
			"DaemonSet", &appsv1.DaemonSet{}, func(o client.Object) { o.(*appsv1.DaemonSet).Spec.Template.Spec.Containers[0].Image = "x" },
			func(o client.Object) bool {
				return o.(*appsv1.DaemonSet).Spec.Template.Spec.Containers[0].Image == "envoy:test"
			}, "every-" + e.ns,
		},
		{
			"Service", &corev1.Service{}, func(o client.Object) { o.(*corev1.Service).Spec.Selector = map[string]string{"a": "b"} },
			func(o client.Object) bool {
				return o.(*corev1.Service).Spec.Selector[gwv1.GatewayNameLabelKey] == "web"
			}, "",
		},
		{"PodDisruptionBudget", &policyv1.PodDisruptionBudget{}, func(o client.Object) {
			o.(*policyv1.PodDisruptionBudget).Spec.MaxUnavailable = new(intstr.FromInt32(0))
		}, func(o client.Object) bool { return o.(*policyv1.PodDisruptionBudget).Spec.MaxUnavailable.IntVal == 1 }, ""},
		{
			"HorizontalPodAutoscaler", &autoscalingv2.HorizontalPodAutoscaler{}, func(o client.Object) { o.(*autoscalingv2.HorizontalPodAutoscaler).Spec.MaxReplicas = 99 },
			func(o client.Object) bool { return o.(*autoscalingv2.HorizontalPodAutoscaler).Spec.MaxReplicas == 3 }, "",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			key := name
			if row.another != "" {
				key = row.another
			}
			has(e, "it is there", key, row.object, row.is)
			e.eventually("the change is taken", func() string {
				if err := e.get(key, row.object); err != nil {
					return err.Error()
				}
				row.harm(row.object)
				if err := e.Update(t.Context(), row.object); err != nil {
					return err.Error()
				}
				return ""
			})
			has(e, "its contents are repaired", key, row.object, row.is)
			labels := row.object.GetLabels()
			delete(labels, v1beta1.LabelManagedBy)
			delete(labels, gwv1.GatewayNameLabelKey)
			e.eventually("the labels are taken off", func() string {
				if err := e.get(key, row.object); err != nil {
					return err.Error()
				}
				row.object.SetLabels(labels)
				if err := e.Update(t.Context(), row.object); err != nil {
					return err.Error()
				}
				return ""
			})
			has(e, "its labels are repaired", key, row.object, func(o client.Object) bool {
				return o.GetLabels()[v1beta1.LabelManagedBy] == v1beta1.ManagedBy && o.GetLabels()[gwv1.GatewayNameLabelKey] != ""
			})
			was := row.object.GetUID()
			e.must(e.Delete(t.Context(), row.object, client.PropagationPolicy(metav1.DeletePropagationBackground)))
			has(e, "it is made anew", key, row.object, func(o client.Object) bool { return o.GetUID() != was && row.is(o) })
		})
	}
}
