// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/xds"
)

// TestADifferenceIsPublishedAsTheWhole publishes random changes to one server whole and to another as
// differences, and compares what is then to be served.
func TestADifferenceIsPublishedAsTheWhole(t *testing.T) {
	gateway := types.NamespacedName{Namespace: "shop", Name: "edge"}
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 3))
		whole, parts := New(Options{}), New(Options{})
		now := xds.Snapshot{Gateway: gateway, Routes: map[string]proto.Message{}, Clusters: map[string]proto.Message{}}
		if _, ok := parts.Update(xds.Delta{Gateway: gateway}); ok {
			t.Fatal("a difference from nothing was taken")
		}
		whole.Publish(now)
		parts.Publish(now)
		for step := range 40 {
			d := xds.Delta{Gateway: gateway, Clusters: map[string]proto.Message{}}
			for range r.IntN(4) {
				name := fmt.Sprint("c", r.IntN(9))
				d.Clusters[name] = nil
				if r.IntN(3) > 0 {
					d.Clusters[name] = clusterVariant(name, r.IntN(3))
				}
			}
			now = d.Apply(now)
			before := parts.State(gateway).Published
			version, ok := parts.Update(d)
			if !ok {
				t.Fatalf("seed %d, step %d: the difference was not taken", seed, step)
			}
			was := whole.State(gateway).Published
			if moved := whole.Publish(now) != was; moved != (version != before) {
				t.Fatalf("seed %d, step %d: a new version %v, of the whole %v", seed, step, version != before, moved)
			}
			for k := range kinds {
				want, got := versions(whole.targets[gateway].resources[k]), versions(parts.targets[gateway].resources[k])
				if !maps.Equal(want, got) || parts.targets[gateway].resources[k].len() != len(want) {
					t.Fatalf("seed %d, step %d: of kind %d is published %v, want %v", seed, step, k, got, want)
				}
			}
		}
	}
}

func versions(s shelf) map[string]string {
	out := map[string]string{}
	for name, r := range s.all() {
		out[name] = r.version
	}
	return out
}

// TestAShelfIsNotChangedByTheNextOne keeps every state and looks at all of them at the end.
func TestAShelfIsNotChangedByTheNextOne(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	model, shelves, models := map[string]*resource{}, []shelf{{}}, []map[string]*resource{{}}
	for range 300 {
		changes := map[string]*resource{}
		for range r.IntN(4) {
			name := fmt.Sprint(r.IntN(400))
			changes[name] = &resource{name: name}
			if r.IntN(3) == 0 {
				changes[name] = nil
			}
		}
		model = maps.Clone(model)
		for name, is := range changes {
			if model[name] = is; is == nil {
				delete(model, name)
			}
		}
		shelves, models = append(shelves, shelves[len(shelves)-1].with(changes)), append(models, model)
	}
	for i, s := range shelves {
		if !maps.Equal(maps.Collect(s.all()), models[i]) || s.len() != len(models[i]) {
			t.Fatalf("state %d has %v", i, slices.Sorted(s.names()))
		}
		for name := range models[i] {
			if s.get(name) != models[i][name] {
				t.Fatalf("state %d has another %s", i, name)
			}
		}
	}
}
