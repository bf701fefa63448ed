// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"reflect"
	"testing"

	"headgate.dev/headgate/dataplane/graph"
)

// A kind that the graph reads and this plugin does not would be missing in what it
// says is expected.
func TestEveryKindOfTheGraphCanBeRead(t *testing.T) {
	readable := map[reflect.Type]bool{}
	for _, kind := range Kinds() {
		o, faults, err := kind.decode([]byte(`{"metadata": {"name": "x", "namespace": "n"}}`), true)
		if err != nil || len(faults) > 0 {
			t.Fatalf("%s: %v %v", kind.Name, err, faults)
		}
		readable[reflect.TypeOf(o)] = true
		w := New()
		w.add(kind, o)
		if w.objects[id{kind.Group, kind.Name, keyOf(o)}] != o {
			t.Errorf("%s is not found again", kind.Name)
		}
		if kind.Name != "EndpointSlice" && reflect.DeepEqual(w.Resources, New().Resources) {
			t.Errorf("%s is not filed in the graph's resources", kind.Name)
		}
	}
	resources := reflect.TypeFor[graph.Resources]()
	for i := range resources.NumField() {
		if resources.Field(i).Name == "Definitions" { // of kinds, not objects of one
			continue
		}
		// Maps of anything but objects say something about them, and are no kinds.
		if field := resources.Field(i); field.Type.Kind() == reflect.Map && field.Type.Elem().Kind() == reflect.Pointer && !readable[field.Type.Elem()] {
			t.Errorf("graph.Resources.%s: no line of Kinds reads it", field.Name)
		}
	}
}
