// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/pki"
	"headgate.dev/headgate/dataplane/server"
)

// controllerConfig lets every test have a controller of the same name.
func controllerConfig(skip bool) ctrlconfig.Controller {
	return ctrlconfig.Controller{SkipNameValidation: &skip}
}

func TestAGatewayGetsItsProxiesAndAStatus(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	name := "web-" + e.ns
	e.eventually("every object is there", func() string {
		for _, o := range []client.Object{
			&corev1.ServiceAccount{}, &corev1.ConfigMap{}, &corev1.Secret{}, &appsv1.Deployment{}, &corev1.Service{}, &policyv1.PodDisruptionBudget{},
		} {
			if err := e.get(name, o); err != nil {
				return err.Error()
			}
			if o.GetLabels()[gwv1.GatewayNameLabelKey] != "web" {
				return fmt.Sprintf("%T has labels %v", o, o.GetLabels())
			}
			if len(o.GetOwnerReferences()) != 1 || o.GetOwnerReferences()[0].Name != "web" {
				return fmt.Sprintf("%T has owners %v", o, o.GetOwnerReferences())
			}
		}
		return ""
	})
	secret := &corev1.Secret{}
	e.must(e.get(name, secret))
	if !pki.SignedBy(secret.Data["tls.crt"], secret.Data["ca.crt"]) || !names(secret.Data["tls.crt"], types.NamespacedName{Namespace: e.ns, Name: "web"}) {
		t.Error("the proxies' certificate is not signed by the authority, or not the Gateway's")
	}
	e.gatewayHas("web", "Accepted=True Accepted")
	e.gatewayHas("web", "Programmed=False AddressNotAssigned")
	e.serve("web")
	e.gatewayHas("web", "Programmed=True Programmed")
	gw := &gwv1.Gateway{}
	e.must(e.get("web", gw))
	if len(gw.Status.Addresses) != 2 || gw.Status.Addresses[0].Value != "192.0.2.7" || gw.Status.Addresses[1].Value != "lb.example.com" {
		t.Errorf("addresses = %+v, want all of the load balancer's", gw.Status.Addresses)
	}
}

func TestARouteAttachesAndDetaches(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	e.serve("web")
	e.route("shop", nil)
	e.routeHas("shop", "ResolvedRefs=False BackendNotFound")
	e.service("shop")
	e.routeHas("shop", "ResolvedRefs=True ResolvedRefs")
	e.routeHas("shop", "Accepted=True Accepted")
	e.routeHas("shop", v1beta1.RouteConditionProgrammed+"=True Programmed")
	e.attached("web", 1)
	r := &gwv1.HTTPRoute{}
	e.must(e.get("shop", r))
	before := r.DeepCopy()
	r.Spec.ParentRefs[0].Name = "elsewhere"
	e.must(e.Patch(e.Context(), r, client.MergeFrom(before)))
	e.attached("web", 0)
	e.eventually("our status is taken from the route", func() string {
		r := &gwv1.HTTPRoute{}
		if err := e.get("shop", r); err != nil {
			return err.Error()
		}
		if len(r.Status.Parents) != 0 {
			return fmt.Sprintf("parents = %+v", r.Status.Parents)
		}
		return ""
	})
}

func TestARouteIsProgrammedOnceAcknowledged(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	e.serve("web")
	e.gatewayHas("web", "Programmed=True Programmed")
	e.service("shop")
	e.server.release(true, nil)
	e.route("shop", nil)
	programmed := v1beta1.RouteConditionProgrammed
	e.routeHas("shop", programmed+"=False Pending")
	e.server.release(true, &server.Nack{
		TypeURL: "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration", Resource: "http-80/*", Message: "missing )",
	})
	e.routeHas("shop", programmed+"=False Pending")
	e.eventually("the proxy's sentence is shown", func() string {
		r := &gwv1.HTTPRoute{}
		if err := e.get("shop", r); err != nil {
			return err.Error()
		}
		for _, c := range r.Status.Parents[0].Conditions {
			if c.Type == programmed && strings.Contains(c.Message, fmt.Sprintf(
				"the ScopedRouteConfiguration \"http-80/*\", which carries HTTPRoute %s/shop, and keeps the former one: missing )", e.ns)) {
				return ""
			}
		}
		return fmt.Sprintf("%+v", r.Status.Parents)
	})
	e.server.release(false, nil)
	e.routeHas("shop", programmed+"=True Programmed")
}

func TestASecretThatChangesIsServed(t *testing.T) {
	e := start(t)
	e.gateway("web", func(gw *gwv1.Gateway) {
		gw.Spec.Listeners = []gwv1.Listener{
			{Name: "http", Port: 80, Protocol: gwv1.HTTPProtocolType},
			{
				Name: "https", Port: 443, Protocol: gwv1.HTTPSProtocolType,
				TLS: &gwv1.ListenerTLSConfig{CertificateRefs: []gwv1.SecretObjectReference{{Name: "cert"}}},
			},
		}
	})
	listener := func(want string) {
		t.Helper()
		e.condition("listener https", want, func() (int64, []metav1.Condition, error) {
			gw := &gwv1.Gateway{}
			if err := e.get("web", gw); err != nil || len(gw.Status.Listeners) < 2 {
				return 0, nil, err
			}
			return gw.Generation, gw.Status.Listeners[1].Conditions, nil
		})
	}
	ports := func(want int) {
		t.Helper()
		e.eventually("the Service has the listeners' ports", func() string {
			s := &corev1.Service{}
			if err := e.get("web-"+e.ns, s); err != nil {
				return err.Error()
			}
			if len(s.Spec.Ports) != want {
				return fmt.Sprintf("%d ports, want %d", len(s.Spec.Ports), want)
			}
			return ""
		})
	}
	listener("ResolvedRefs=False InvalidCertificateRef")
	ports(1)
	d := &appsv1.Deployment{}
	e.must(e.get("web-"+e.ns, d))
	cert, key := keyPair(t, "a.example.com")
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: "cert"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": cert, "tls.key": key},
	}
	e.must(e.Create(e.Context(), secret))
	listener("ResolvedRefs=True ResolvedRefs")
	ports(2)
	if n := e.measured("headgate_gateway_event_to_publish_seconds", "web"); n < 2 {
		t.Errorf("%v publications were measured, want those of the Gateway and of its certificate", n)
	}
	if end := e.measured("headgate_gateway_certificate_expiry_timestamp_seconds", "web"); end < float64(time.Now().Unix()) {
		t.Errorf("the certificate is said to end at %v", end)
	}
	after := &appsv1.Deployment{}
	e.must(e.get("web-"+e.ns, after))
	if d.Generation != after.Generation {
		t.Error("a listener that was added changed the Deployment: its pods would restart")
	}
	web := types.NamespacedName{Namespace: e.ns, Name: "web"}
	version := e.server.State(web).Published
	secret.Data["tls.crt"], secret.Data["tls.key"] = keyPair(t, "b.example.com")
	e.must(e.Update(e.Context(), secret))
	e.eventually("the new certificate is published", func() string {
		if e.server.State(web).Published == version {
			return "nothing was published"
		}
		return ""
	})
	secret.Data["tls.crt"] = []byte("Hello world")
	e.must(e.Update(e.Context(), secret))
	listener("ResolvedRefs=False InvalidCertificateRef")
}

func TestListenersOfDifferentProtocolsOnAPortConflict(t *testing.T) {
	e := start(t)
	cert, key := keyPair(t, "a.example.com")
	e.must(e.Create(e.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: "cert"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": cert, "tls.key": key},
	}))
	e.gateway("web", func(gw *gwv1.Gateway) {
		gw.Spec.Listeners = append(gw.Spec.Listeners, gwv1.Listener{
			Name: "https", Port: 80, Protocol: gwv1.HTTPSProtocolType,
			TLS: &gwv1.ListenerTLSConfig{CertificateRefs: []gwv1.SecretObjectReference{{Name: "cert"}}},
		})
	})
	e.gatewayHas("web", "Accepted=False ListenersNotValid")
	err := e.get("web-"+e.ns, &appsv1.Deployment{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("reading the Deployment gave %v, want that there is none", err)
	}
}

func TestWhatSomebodyElseMadeIsLeftAlone(t *testing.T) {
	e := start(t)
	mine := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: "web-" + e.ns}, Data: map[string]string{"mine": "yes"}}
	e.must(e.Create(e.Context(), mine))
	e.gateway("web", nil)
	e.gatewayHas("web", "Programmed=False NoResources")
	got := &corev1.ConfigMap{}
	e.must(e.get(mine.Name, got))
	if got.Data["mine"] != "yes" || len(got.Data) != 1 || len(got.OwnerReferences) > 0 {
		t.Errorf("the ConfigMap became %+v", got)
	}
}

func TestWhatSomebodyChangesIsRepaired(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	e.serve("web")
	e.gatewayHas("web", "Programmed=True Programmed")
	name := "web-" + e.ns
	d := &appsv1.Deployment{}
	e.must(e.get(name, d))
	d.Spec.Template.Spec.Containers[0].Image = "evil"
	e.must(e.Update(e.Context(), d))
	e.must(e.Delete(e.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: name}}))
	e.eventually("both are as they were", func() string {
		d := &appsv1.Deployment{}
		if err := e.get(name, d); err != nil {
			return err.Error()
		}
		if got := d.Spec.Template.Spec.Containers[0].Image; got != "envoy:test" {
			return "the image is " + got
		}
		if err := e.get(name, &corev1.ConfigMap{}); err != nil {
			return err.Error()
		}
		return ""
	})
}

func TestEndpointsTakeTheirOwnPath(t *testing.T) {
	e := start(t)
	e.service("shop")
	e.service("other")
	e.gateway("web", nil)
	e.serve("web")
	e.route("shop", nil)
	e.routeHas("shop", "ResolvedRefs=True ResolvedRefs")
	// The translation may not be there yet: what the reconciler knows is what counts.
	key := graph.ClusterKey{Namespace: e.ns, Service: "shop", Port: 80}
	count := func() int {
		e.server.mu.Lock()
		defer e.server.mu.Unlock()
		return e.server.endpoints[key]
	}
	e.eventually("the endpoints are published before the route", func() string {
		if count() == 0 {
			return "they are not"
		}
		return ""
	})
	before := count()
	e.must(e.Create(e.Context(), slice(e.ns, "shop", "10.1.2.3")))
	e.eventually("a new slice is published", func() string {
		if count() == before {
			return "it is not"
		}
		return ""
	})
	e.must(e.Delete(e.Context(), &gwv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: "shop"}}))
	e.eventually("an upstream that nobody uses is forgotten", func() string {
		if count() > 0 {
			return "it is not"
		}
		return ""
	})
}

func TestADeletedGatewayIsWithdrawn(t *testing.T) {
	e := start(t)
	gw := e.gateway("web", nil)
	e.serve("web")
	e.gatewayHas("web", "Programmed=True Programmed")
	e.must(e.Delete(e.Context(), gw))
	e.eventually("it is withdrawn", func() string {
		e.server.mu.Lock()
		defer e.server.mu.Unlock()
		if !e.server.withdrawn[client.ObjectKeyFromObject(gw)] {
			return "it is not"
		}
		return ""
	})
}

func TestForeignEntriesSurviveOnTheServer(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	e.serve("web")
	e.service("shop")
	e.route("shop", nil)
	e.routeHas("shop", "Accepted=True Accepted")
	e.eventually("a foreign entry is added", func() string {
		r := &gwv1.HTTPRoute{}
		e.must(e.get("shop", r))
		r.Status.Parents = append(r.Status.Parents, gwv1.RouteParentStatus{
			ParentRef: gwv1.ParentReference{Name: "web"}, ControllerName: "example.com/other",
			Conditions: []metav1.Condition{{Type: "Seen", Status: metav1.ConditionTrue, Reason: "Seen", LastTransitionTime: metav1.Now()}},
		})
		if err := e.Status().Update(e.Context(), r); err != nil {
			return err.Error()
		}
		return ""
	})
	r := &gwv1.HTTPRoute{}
	e.must(e.get("shop", r))
	before := r.DeepCopy()
	r.Spec.Rules[0].BackendRefs[0].Weight = ptr.To(int32(7))
	e.must(e.Patch(e.Context(), r, client.MergeFrom(before)))
	e.routeHas("shop", v1beta1.RouteConditionProgrammed+"=True Programmed")
	e.must(e.get("shop", r))
	if len(r.Status.Parents) != 2 || r.Status.Parents[1].ControllerName != "example.com/other" {
		t.Errorf("parents = %+v, want the foreign entry kept", r.Status.Parents)
	}
}

func TestAtRestNothingIsWritten(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	e.serve("web")
	e.service("shop")
	e.route("shop", nil)
	e.routeHas("shop", v1beta1.RouteConditionProgrammed+"=True Programmed")
	e.gatewayHas("web", "Programmed=True Programmed")
	e.attached("web", 1)
	versions := func() string {
		var out []string
		for _, o := range []client.Object{&gwv1.Gateway{}, &gwv1.HTTPRoute{}} {
			name := "web"
			if _, ok := o.(*gwv1.HTTPRoute); ok {
				name = "shop"
			}
			e.must(e.get(name, o))
			out = append(out, o.GetResourceVersion())
		}
		for _, o := range []client.Object{&corev1.ConfigMap{}, &corev1.Secret{}, &appsv1.Deployment{}, &corev1.Service{}} {
			e.must(e.get("web-"+e.ns, o))
			out = append(out, o.GetResourceVersion())
		}
		return strings.Join(out, " ")
	}
	before := versions()
	// An event that changes nothing that matters makes a pass, which must find nothing to do.
	for range 5 {
		ns := &corev1.Namespace{}
		e.must(e.Get(e.Context(), types.NamespacedName{Name: e.ns}, ns))
		old := ns.DeepCopy()
		ns.Labels["round"] = fmt.Sprint(len(ns.Labels["round"])) + "x"
		e.must(e.Patch(e.Context(), ns, client.MergeFrom(old)))
		e.server.release(false, nil)
	}
	e.service("marker")
	e.route("marker", func(r *gwv1.HTTPRoute) { r.Spec.Rules[0].BackendRefs[0].Name = "marker" })
	e.routeHas("marker", "ResolvedRefs=True ResolvedRefs")
	after := versions()
	if b, a := strings.Fields(before), strings.Fields(after); strings.Join(b[1:], " ") != strings.Join(a[1:], " ") {
		t.Errorf("versions were %s and are %s: something was written at rest", before, after)
	}
}

func TestAChangeOfARouteCostsOneStatusWrite(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	e.serve("web")
	e.service("shop")
	e.route("shop", nil)
	programmed := v1beta1.RouteConditionProgrammed + "=True Programmed"
	e.routeHas("shop", programmed)
	web, err := client.NewWithWatch(config, client.Options{Scheme: e.Scheme()})
	e.must(err)
	w, err := web.Watch(e.Context(), &gwv1.HTTPRouteList{}, client.InNamespace(e.ns))
	e.must(err)
	defer w.Stop()
	const changes = 5
	for i := range changes {
		r := &gwv1.HTTPRoute{}
		e.must(e.get("shop", r))
		before := r.DeepCopy()
		r.Spec.Rules[0].BackendRefs[0].Weight = ptr.To(int32(i + 10))
		e.must(e.Patch(e.Context(), r, client.MergeFrom(before)))
		e.routeHas("shop", programmed)
	}
	statuses := 0
	for end := time.After(300 * time.Millisecond); ; {
		select {
		case event := <-w.ResultChan():
			r, ok := event.Object.(*gwv1.HTTPRoute)
			if ok && len(r.Status.Parents) > 0 && r.Status.Parents[0].Conditions[0].ObservedGeneration == r.Generation && event.Type == apiwatch.Modified {
				statuses++
			}
			continue
		case <-end:
		}
		break
	}
	if statuses != changes {
		t.Errorf("%d changes of the route made %d writes of its status, want one each", changes, statuses)
	}
}
