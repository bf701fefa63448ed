// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	"sigs.k8s.io/yaml"
)

// Read is what came of reading documents.
type Read struct {
	// Faults are documents that an API server would refuse, or that Headgate does
	// not serve; each begins with where it stands.
	Faults []string
	// Notes are documents that do not matter for the gateway's configuration.
	Notes []string
	// Objects counts those that were added.
	Objects int
}

// AddYAML adds the objects of YAML or JSON documents. Source is their file, for
// messages; objects without a namespace get the one given. Unknown fields are
// faults, as they are for kubectl apply.
func (w *World) AddYAML(source string, data []byte, namespace string) Read {
	var r Read
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for n := 1; ; n++ {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return r
		}
		where := fmt.Sprintf("%s, document %d", source, n)
		if err != nil {
			r.fault(where, err)
			return r
		}
		object, err := yaml.YAMLToJSONStrict(doc)
		if err != nil {
			r.fault(where, err)
			continue
		}
		if string(object) != "null" {
			w.addJSON(&r, where, object, namespace)
		}
	}
}

func (r *Read) fault(where string, err error) {
	message := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "json: "), "error converting YAML to JSON: ")
	r.Faults = append(r.Faults, where+": "+message)
}

func (w *World) addJSON(r *Read, where string, object []byte, namespace string) {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(object, &head); err != nil {
		r.fault(where, errors.New("it is not a Kubernetes object: write apiVersion, kind and metadata"))
		return
	}
	if head.APIVersion == "v1" && head.Kind == "List" {
		for i, item := range head.Items {
			w.addJSON(r, fmt.Sprintf("%s, items[%d]", where, i), item, namespace)
		}
		return
	}
	gv, err := schema.ParseGroupVersion(head.APIVersion)
	if err != nil || head.Kind == "" || head.APIVersion == "" {
		r.fault(where, errors.New("apiVersion or kind is missing: write both, for example apiVersion: gateway.networking.k8s.io/v1 and kind: HTTPRoute"))
		return
	}
	where += fmt.Sprintf(", %s %s", head.Kind, head.Metadata.Name)
	kinds := Kinds()
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Group == gv.Group && k.Name == head.Kind })
	switch {
	case i < 0 && (gv.Group == gwv1.GroupName || gv.Group == gwxv1alpha1.GroupName):
		r.fault(where, fmt.Errorf("Headgate does not serve kind %s of %s", head.Kind, head.APIVersion)) //nolint:staticcheck // a sentence, with a name in front
		return
	case i < 0:
		r.Notes = append(r.Notes, fmt.Sprintf("%s: %s %s does not shape the gateway's configuration", where, head.APIVersion, head.Kind))
		return
	case !slices.Contains(kinds[i].Versions, gv.Version):
		r.fault(where, fmt.Errorf("version %q of this kind is not known: write %s", gv.Version, strings.Join(kinds[i].Versions, " or ")))
		return
	}
	w.addObject(r, where, kinds[i], object, namespace)
}

func (w *World) addObject(r *Read, where string, kind Kind, object []byte, namespace string) {
	o, faults, err := kind.decode(object, true)
	if err != nil {
		faults = append(faults, err)
	}
	for _, fault := range faults {
		r.fault(where, fault)
	}
	if len(faults) > 0 {
		return
	}
	if problems := validation.IsDNS1123Subdomain(o.GetName()); len(problems) > 0 {
		r.fault(where, fmt.Errorf("metadata.name is %q: write a name of lower case letters, digits, '-' and '.'", o.GetName()))
		return
	}
	switch {
	case !kind.Namespaced:
		o.SetNamespace("")
	case o.GetNamespace() == "":
		o.SetNamespace(namespace)
	}
	if s, ok := o.(*corev1.Secret); ok { // as the API server does
		for k, v := range s.StringData {
			if s.Data == nil {
				s.Data = map[string][]byte{}
			}
			s.Data[k] = []byte(v)
		}
		s.StringData = nil
	}
	of := id{kind.Group, kind.Name, types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}}
	if w.objects[of] != nil {
		r.fault(where, fmt.Errorf("%s stands in the input twice: remove one", of))
		return
	}
	w.add(kind, o)
	r.Objects++
}
