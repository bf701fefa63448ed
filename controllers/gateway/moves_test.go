// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
)

// TestAStatusIsWrittenHoweverMuchHappens holds back the acknowledgements while the world
// changes all the time.
func TestAStatusIsWrittenHoweverMuchHappens(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	e.serve("web")
	e.service("shop")
	e.gatewayHas("web", "Programmed=True Programmed")
	e.server.release(true, nil)
	unlimited := rest.CopyConfig(config)
	unlimited.QPS = -1
	busy, err := client.New(unlimited, client.Options{Scheme: e.Scheme()})
	e.must(err)
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
			ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.ns}}
			patch := fmt.Appendf(nil, `{"metadata":{"labels":{"round":"%d"}}}`, i)
			if err := busy.Patch(t.Context(), ns, client.RawPatch(types.MergePatchType, patch)); err != nil {
				t.Errorf("making news: %v", err)
				return
			}
		}
	}()
	defer func() { close(done); <-stopped }()
	e.route("shop", nil)
	e.routeHas("shop", v1beta1.RouteConditionProgrammed+"=False Pending")
}

func TestLabelsAndAnnotationsOfTheInfrastructureAreRepaired(t *testing.T) {
	e := start(t)
	e.gateway("web", func(gw *gwv1.Gateway) {
		gw.Spec.Infrastructure = &gwv1.GatewayInfrastructure{Annotations: map[gwv1.AnnotationKey]gwv1.AnnotationValue{"example.com/team": "a"}}
	})
	e.serve("web")
	e.gatewayHas("web", "Programmed=True Programmed")
	name := "web-" + e.ns
	kinds := []client.Object{&appsv1.Deployment{}, &corev1.Service{}, &corev1.ConfigMap{}, &policyv1.PodDisruptionBudget{}}
	for _, patch := range []string{
		fmt.Sprintf(`{"metadata":{"labels":{%q:"x"}}}`, gwv1.GatewayNameLabelKey),
		fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, v1beta1.LabelManagedBy),
		`{"metadata":{"annotations":{"example.com/team":"b"}}}`,
	} {
		for _, o := range kinds {
			e.must(e.get(name, o))
			e.must(e.Patch(e.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch))))
			e.eventually(fmt.Sprintf("%T after %s is as it was", o, patch), func() string {
				e.must(e.get(name, o))
				if o.GetLabels()[v1beta1.LabelManagedBy] != v1beta1.ManagedBy || o.GetLabels()[gwv1.GatewayNameLabelKey] != "web" ||
					o.GetAnnotations()["example.com/team"] != "a" {
					return fmt.Sprintf("it has labels %v and annotations %v", o.GetLabels(), o.GetAnnotations())
				}
				return ""
			})
		}
	}
}

// move makes a class of a controller, and moves the Gateway to it.
func (e *env) move(gateway, class string, controller gwv1.GatewayController) {
	e.Helper()
	c := &gwv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: class}, Spec: gwv1.GatewayClassSpec{ControllerName: controller}}
	e.must(e.Create(e.Context(), c))
	gw := &gwv1.Gateway{}
	e.must(e.get(gateway, gw))
	before := gw.DeepCopy()
	gw.Spec.GatewayClassName = gwv1.ObjectName(class)
	e.must(e.Patch(e.Context(), gw, client.MergeFrom(before)))
}

func (e *env) gone(name string, kinds ...client.Object) {
	e.Helper()
	for _, o := range kinds {
		e.eventually(fmt.Sprintf("%T is gone", o), func() string {
			if err := e.get(name, o); !apierrors.IsNotFound(err) {
				if err == nil && o.GetDeletionTimestamp() != nil {
					return "" // whatever still waits for it is the cluster's
				}
				return fmt.Sprint("it is there: ", err)
			}
			return ""
		})
	}
}

func TestProxiesOfAGatewayThatMovedToAnotherControllerAreRemoved(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	e.gateway("other", nil)
	e.serve("web")
	e.serve("other")
	e.gatewayHas("web", "Programmed=True Programmed")
	e.move("web", e.ns+"-foreign", "example.com/other")
	e.gone("web-"+e.ns, &corev1.Service{}, &appsv1.Deployment{}, &policyv1.PodDisruptionBudget{})
	e.must(e.get("other-"+e.ns, &appsv1.Deployment{}))
}

func TestProxiesOfAGatewayWhoseClassIsMissingStay(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	e.serve("web")
	e.gatewayHas("web", "Programmed=True Programmed")
	e.must(e.Delete(e.Context(), &gwv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: e.ns}}))
	e.eventually("it is withdrawn", func() string {
		e.server.mu.Lock()
		defer e.server.mu.Unlock()
		if !e.server.withdrawn[types.NamespacedName{Namespace: e.ns, Name: "web"}] {
			return "it is not"
		}
		return ""
	})
	for _, o := range []client.Object{&corev1.Service{}, &appsv1.Deployment{}} {
		e.must(e.get("web-"+e.ns, o))
		if o.GetDeletionTimestamp() != nil {
			t.Errorf("%T is being deleted", o)
		}
	}
}

func TestProxiesOfAnotherClassOfOursGoOnceTheNewOnesAreReady(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	e.serve("web")
	e.gatewayHas("web", "Programmed=True Programmed")
	e.move("web", e.ns+"-2", v1beta1.ControllerName)
	e.eventually("the new ones appear", func() string {
		if err := e.get("web-"+e.ns+"-2", &policyv1.PodDisruptionBudget{}); err != nil {
			return err.Error()
		}
		return ""
	})
	old := []client.Object{&corev1.Service{}, &appsv1.Deployment{}}
	if slices.ContainsFunc(old, func(o client.Object) bool { return e.get("web-"+e.ns, o) != nil || o.GetDeletionTimestamp() != nil }) {
		t.Error("the old proxies went before the new ones were ready")
	}
	d := &appsv1.Deployment{}
	e.eventually("the new ones are ready", func() string {
		e.must(e.get("web-"+e.ns+"-2", d))
		d.Status.Replicas, d.Status.ReadyReplicas = 1, 1
		if err := e.Status().Update(e.Context(), d); err != nil {
			return err.Error()
		}
		return ""
	})
	e.gone("web-"+e.ns, &corev1.Service{}, &appsv1.Deployment{}, &policyv1.PodDisruptionBudget{})
	e.must(e.get("web-"+e.ns+"-2", d))
}
