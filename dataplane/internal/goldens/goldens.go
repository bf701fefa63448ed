// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package goldens reads the cases that the packages of the data plane share:
// one folder of dataplane/testdata each, with the objects of a cluster in
// in.yaml and, beside it, what each package makes of them. "go test -update"
// writes the expectations anew; the difference is reviewed as code.
package goldens

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
)

var update = flag.Bool("update", false, "write the expectations in dataplane/testdata anew")

// Case is one folder of dataplane/testdata.
type Case struct {
	// Name is the folder's name: a sentence with dashes.
	Name string
	// Dir is the folder.
	Dir string
	// Resources are the objects of in.yaml.
	Resources graph.Resources
	// EndpointSlices are those of in.yaml, which are not part of the graph.
	EndpointSlices []*discoveryv1.EndpointSlice
}

// Cases reads every case, sorted by name.
func Cases(t testing.TB) []Case {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("finding the source folder of package goldens failed")
	}
	inputs, err := filepath.Glob(filepath.Join(filepath.Dir(file), "..", "..", "testdata", "*", "in.yaml"))
	if err != nil || len(inputs) == 0 {
		t.Fatalf("finding dataplane/testdata/*/in.yaml: %d found, error %v", len(inputs), err)
	}
	cases := make([]Case, 0, len(inputs))
	for _, in := range inputs {
		data, err := os.ReadFile(in)
		if err != nil {
			t.Fatal(err)
		}
		c := Case{Name: filepath.Base(filepath.Dir(in)), Dir: filepath.Dir(in)}
		if c.Resources, c.EndpointSlices, err = Parse(data); err != nil {
			t.Fatalf("reading %s: %v", in, err)
		}
		cases = append(cases, c)
	}
	return cases
}

// Compare reports a difference between the case's file and got; with -update it
// writes the file instead.
func (c Case) Compare(t testing.TB, file string, got []byte) {
	t.Helper()
	path := filepath.Join(c.Dir, file)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("reading the expectation (run with -update to write it): %v", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got); if the change is meant, run with -update:\n%s", file, diff)
	}
}

// Parse reads objects from YAML documents. An unknown field or kind is an error,
// so that a typing mistake in a case cannot hide. Objects without a namespace
// are in "default", and Namespaces that are not given exist without labels of their own.
func Parse(data []byte) (graph.Resources, []*discoveryv1.EndpointSlice, error) {
	r := Empty()
	var slices []*discoveryv1.EndpointSlice
	for i, doc := range bytes.Split(data, []byte("\n---")) {
		if len(bytes.TrimSpace(doc)) == 0 || string(bytes.TrimSpace(doc)) == "---" {
			continue
		}
		doc = bytes.TrimPrefix(doc, []byte("---"))
		obj, err := decode(doc)
		if err != nil {
			return r, nil, fmt.Errorf("document %d: %w", i+1, err)
		}
		if slice, ok := obj.(*discoveryv1.EndpointSlice); ok {
			slices = append(slices, slice)
			continue
		}
		if err := Add(&r, obj); err != nil {
			return r, nil, fmt.Errorf("document %d: %w", i+1, err)
		}
	}
	return r, slices, nil
}

func decode(doc []byte) (client.Object, error) {
	var head struct {
		Kind string `json:"kind"`
	}
	if err := yaml.Unmarshal(doc, &head); err != nil {
		return nil, err
	}
	kinds := map[string]client.Object{
		"GatewayClass":   &gwv1.GatewayClass{},
		"Gateway":        &gwv1.Gateway{},
		"ListenerSet":    &gwv1.ListenerSet{},
		"HTTPRoute":      &gwv1.HTTPRoute{},
		"GRPCRoute":      &gwv1.GRPCRoute{},
		"TLSRoute":       &gwv1.TLSRoute{},
		"TCPRoute":       &gwv1.TCPRoute{},
		"UDPRoute":       &gwv1.UDPRoute{},
		"ReferenceGrant": &gwv1beta1.ReferenceGrant{},
		"Namespace":      &corev1.Namespace{},
		"Service":        &corev1.Service{},
		"Secret":         &corev1.Secret{},
		"EndpointSlice":  &discoveryv1.EndpointSlice{},
		"ProxyConfig":    &v1beta1.ProxyConfig{},
		"ConfigMap":      &corev1.ConfigMap{},

		"BackendTLSPolicy":      &gwv1.BackendTLSPolicy{},
		"ClusterTrustBundle":    &certificatesv1.ClusterTrustBundle{},
		"XBackend":              &gwxv1alpha1.XBackend{},
		"XBackendTrafficPolicy": &gwxv1alpha1.XBackendTrafficPolicy{},
	}
	obj := kinds[head.Kind]
	if obj == nil {
		return nil, fmt.Errorf("kind %q is not one that the graph reads", head.Kind)
	}
	if err := yaml.UnmarshalStrict(doc, obj); err != nil {
		return nil, fmt.Errorf("reading the %s: %w", head.Kind, err)
	}
	switch o := obj.(type) {
	case *gwv1.GatewayClass, *corev1.Namespace, *certificatesv1.ClusterTrustBundle:
	case *corev1.Secret:
		o.Namespace = defaulted(o.Namespace)
		for k, v := range o.StringData { // as the API server does
			if o.Data == nil {
				o.Data = map[string][]byte{}
			}
			o.Data[k] = []byte(v)
		}
		o.StringData = nil
	default:
		obj.SetNamespace(defaulted(obj.GetNamespace()))
	}
	return obj, nil
}

func defaulted(namespace string) string {
	if namespace == "" {
		return "default"
	}
	return namespace
}

// Empty has no objects, but every map.
func Empty() graph.Resources {
	return graph.NewResources(v1beta1.ControllerName)
}

// Add puts an object into r, and its namespace where it is missing.
func Add(r *graph.Resources, obj client.Object) error {
	key := client.ObjectKeyFromObject(obj)
	switch o := obj.(type) {
	case *gwv1.GatewayClass:
		r.GatewayClasses[o.Name] = o
	case *gwv1.Gateway:
		r.Gateways[key] = o
	case *gwv1.ListenerSet:
		r.ListenerSets[key] = o
	case *gwv1.HTTPRoute:
		r.HTTPRoutes[key] = o
	case *gwv1.GRPCRoute:
		r.GRPCRoutes[key] = o
	case *gwv1.TLSRoute:
		r.TLSRoutes[key] = o
	case *gwv1.TCPRoute:
		r.TCPRoutes[key] = o
	case *gwv1.UDPRoute:
		r.UDPRoutes[key] = o
	case *gwv1beta1.ReferenceGrant:
		r.ReferenceGrants[key] = o
	case *gwxv1alpha1.XBackend:
		r.XBackends[key] = o
	case *gwxv1alpha1.XBackendTrafficPolicy:
		r.XBackendTrafficPolicies[key] = o
	case *corev1.Namespace:
		r.Namespaces[o.Name] = o
	case *corev1.Service:
		r.Services[key] = o
	case *corev1.Secret:
		r.Secrets[key] = o
	case *v1beta1.ProxyConfig:
		r.ProxyConfigs[key] = o
	case *corev1.ConfigMap:
		r.ConfigMaps[key] = o
	case *certificatesv1.ClusterTrustBundle:
		r.ClusterTrustBundles[o.Name] = o
	case *gwv1.BackendTLSPolicy:
		r.BackendTLSPolicies[key] = o
	default:
		return fmt.Errorf("%T is not a kind that the graph reads", obj)
	}
	if ns := obj.GetNamespace(); ns != "" && r.Namespaces[ns] == nil {
		n := &corev1.Namespace{}
		n.Name = ns
		n.Labels = map[string]string{"kubernetes.io/metadata.name": ns}
		r.Namespaces[ns] = n
	}
	return nil
}
