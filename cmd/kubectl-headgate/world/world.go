// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package world reads Kubernetes objects, from a cluster's answers or from YAML
// documents, into what the gateway's configuration is made of.
package world

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/xds"
)

// World is the objects.
type World struct {
	Resources graph.Resources
	slices    []*discoveryv1.EndpointSlice
	objects   map[id]client.Object
}

// id names an object.
type id struct {
	group, kind string
	types.NamespacedName
}

func (i id) String() string { return i.kind + " " + strings.TrimPrefix(i.NamespacedName.String(), "/") }

// New is a world without objects.
func New() *World {
	return &World{Resources: graph.NewResources(v1beta1.ControllerName), objects: map[id]client.Object{}}
}

// AddList adds what an API server answers to a list request.
func (w *World) AddList(kind Kind, answer []byte) error {
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		return err
	}
	for _, item := range list.Items {
		if err := w.Add(kind, item); err != nil {
			return err
		}
	}
	return nil
}

// Add adds one object of an API server.
func (w *World) Add(kind Kind, object []byte) error {
	o, _, err := kind.decode(object, false)
	if err != nil {
		return err
	}
	w.add(kind, o)
	return nil
}

func (w *World) add(kind Kind, o client.Object) {
	kind.put(w, o)
	w.objects[id{kind.Group, kind.Name, keyOf(o)}] = o
}

func keyOf(o client.Object) types.NamespacedName { return client.ObjectKeyFromObject(o) }

// Find gives an object of the Gateway API by kind and name, or nil.
func (w *World) Find(kind string, key types.NamespacedName) client.Object {
	return w.objects[id{gwv1.GroupName, kind, key}]
}

// Endpoints gives those of every upstream of a Snapshot.
func (w *World) Endpoints(snap xds.Snapshot) map[string]*endpointv3.ClusterLoadAssignment {
	out := map[string]*endpointv3.ClusterLoadAssignment{}
	for name, key := range snap.ClusterKeys {
		of := types.NamespacedName{Namespace: key.Namespace, Name: key.Service}
		var own []*discoveryv1.EndpointSlice
		for _, s := range w.slices {
			if s.Namespace == of.Namespace && s.Labels[discoveryv1.LabelServiceName] == of.Name {
				own = append(own, s)
			}
		}
		out[name] = xds.Endpoints(key, w.Resources.Services[of], own)
	}
	return out
}

// Assume adds what every cluster has and manifests seldom do: the GatewayClasses
// that Gateways name, taken to be Headgate's, and the namespaces of the objects. It
// says what it assumed.
func (w *World) Assume() []string {
	var notes []string
	classes := map[string]bool{}
	for _, gw := range w.Resources.Gateways {
		if name := string(gw.Spec.GatewayClassName); name != "" && w.Resources.GatewayClasses[name] == nil {
			classes[name] = true
		}
	}
	for name := range classes {
		class := &gwv1.GatewayClass{}
		class.Name = name
		class.Spec.ControllerName = v1beta1.ControllerName
		w.Resources.GatewayClasses[name] = class
		notes = append(notes, fmt.Sprintf("GatewayClass %q is not in the input: it is taken to be Headgate's", name))
	}
	for of := range w.objects {
		name := of.Namespace
		if of.group != gwv1.GroupName || name == "" || w.Resources.Namespaces[name] != nil {
			continue
		}
		ns := &corev1.Namespace{}
		ns.Name = name
		ns.Labels = map[string]string{corev1.LabelMetadataName: name}
		w.Resources.Namespaces[name] = ns
		notes = append(notes, fmt.Sprintf("Namespace %q is not in the input: it is taken to have no labels of its own", name))
	}
	slices.SortFunc(notes, strings.Compare)
	return notes
}
