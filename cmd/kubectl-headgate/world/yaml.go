// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
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
		r.fault(where, unserved(kinds, gv, head.Kind))
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

// unserved says which kinds of a group there are, or how the one is written that was meant.
func unserved(kinds []Kind, gv schema.GroupVersion, name string) error {
	var names []string
	for _, k := range kinds {
		switch {
		case strings.EqualFold(k.Name, name):
			return fmt.Errorf("there is no kind %s: write kind: %s and apiVersion: %s/%s", name, k.Name, k.Group, k.Versions[0])
		case k.Group == gv.Group:
			names = append(names, k.Name)
		}
	}
	slices.Sort(names)
	return fmt.Errorf("Headgate does not serve kind %s of %s: it serves %s", name, gv, strings.Join(names, ", ")) //nolint:staticcheck // a sentence, with a name in front
}

// inWords says of a value that cannot be read what to write, in the words of YAML instead of Go's.
func inWords(err error) error {
	var (
		wrong  *json.UnmarshalTypeError
		broken base64.CorruptInputError
	)
	switch {
	case errors.As(err, &broken):
		return fmt.Errorf("data holds what is not base64 (%w): encode it, or write it as it is under stringData", err)
	case strings.HasPrefix(err.Error(), "time: "):
		return fmt.Errorf("%w: write a duration such as 500ms, 10s or 1m30s", err)
	}
	if !errors.As(err, &wrong) || wrong.Field == "" {
		return err
	}
	want := "a map"
	switch wrong.Type.Kind() {
	case reflect.String:
		want = "a string, in quotes where it would be read as something else"
	case reflect.Bool:
		want = "true or false"
	case reflect.Int, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		want = "a whole number, without quotes"
	case reflect.Slice, reflect.Array:
		want = "a list"
	default: // structs and maps
	}
	return fmt.Errorf("%s cannot be what stands there (%s): write %s", wrong.Field, wrong.Value, want)
}

// namedTwice finds listeners that share a name. An API server refuses them, so the graph never
// has to tell them apart.
func namedTwice(o client.Object) []error {
	var names []gwv1.SectionName
	switch o := o.(type) {
	case *gwv1.Gateway:
		for _, l := range o.Spec.Listeners {
			names = append(names, l.Name)
		}
	case *gwv1.ListenerSet:
		for _, l := range o.Spec.Listeners {
			names = append(names, l.Name)
		}
	}
	var faults []error
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			faults = append(faults, fmt.Errorf("spec.listeners[%d].name is %q, which an earlier listener has: give each a name of its own", i, name))
		}
	}
	return faults
}

func (w *World) addObject(r *Read, where string, kind Kind, object []byte, namespace string) {
	o, faults, err := kind.decode(object, true)
	if err != nil {
		faults = append(faults, inWords(err))
	} else {
		faults = append(faults, namedTwice(o)...)
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
