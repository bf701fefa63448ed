// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
	"headgate.dev/headgate/dataplane/status"
	"headgate.dev/headgate/dataplane/xds"
)

// world is the objects of a cluster that somebody changes, and others, of which each may be
// what an object of its kind becomes.
type world struct {
	*rand.Rand
	res     graph.Resources
	pool    []graph.Resources
	version int
	// kinds are the fields of Resources with objects.
	kinds []string
	// touched are the routes that changed since, other says that something else may have.
	touched []graph.RouteKey
	other   bool
}

func newWorld(seed uint64, pool []graph.Resources) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 5)), pool: pool}
	w.res = pool[w.IntN(len(pool))]
	fields := reflect.TypeFor[graph.Resources]()
	for i := range fields.NumField() {
		if f := fields.Field(i); f.Type.Kind() == reflect.Map && f.Type.Elem().Implements(reflect.TypeFor[client.Object]()) {
			w.kinds = append(w.kinds, f.Name)
		}
	}
	for _, kind := range w.kinds {
		for _, key := range keysOf(w.all(kind)) {
			w.put(kind, key, w.get(kind, key).DeepCopyObject().(client.Object))
		}
	}
	return w
}

func (w *world) all(kind string) reflect.Value { return reflect.ValueOf(w.res).FieldByName(kind) }

func (w *world) get(kind string, key reflect.Value) client.Object {
	return w.all(kind).MapIndex(key).Interface().(client.Object)
}

func keysOf(m reflect.Value) []reflect.Value {
	return slices.SortedFunc(slices.Values(m.MapKeys()), func(a, b reflect.Value) int {
		return cmp.Compare(fmt.Sprint(a.Interface()), fmt.Sprint(b.Interface()))
	})
}

// put writes an object as the API server does: with a new version. The former map and object stay.
func (w *world) put(kind string, key reflect.Value, o client.Object) {
	w.version++
	o.SetResourceVersion(fmt.Sprint(w.version))
	if o.GetUID() == "" {
		o.SetUID(types.UID(fmt.Sprint("u", w.version)))
		o.SetGeneration(1)
	}
	w.renew(kind, key).SetMapIndex(key, reflect.ValueOf(o))
}

// renew gives a new map for a kind in which the object of the key is going to differ.
func (w *world) renew(kind string, key reflect.Value) reflect.Value {
	routes, ok := map[string]graph.RouteKind{"HTTPRoutes": graph.KindHTTPRoute, "GRPCRoutes": graph.KindGRPCRoute}[kind]
	if w.other = w.other || !ok; ok {
		w.touched = append(w.touched, graph.RouteKey{Kind: routes, NamespacedName: key.Interface().(types.NamespacedName)})
	}
	field := reflect.ValueOf(&w.res).Elem().FieldByName(kind)
	fresh := reflect.MakeMap(field.Type())
	for entries := field.MapRange(); entries.Next(); {
		fresh.SetMapIndex(entries.Key(), entries.Value())
	}
	field.Set(fresh)
	return fresh
}

// donor is an object of a kind from anywhere, or nil.
func (w *world) donor(kind string) (reflect.Value, client.Object) {
	for range 5 {
		from := reflect.ValueOf(w.pool[w.IntN(len(w.pool))]).FieldByName(kind)
		if keys := keysOf(from); len(keys) > 0 {
			key := keys[w.IntN(len(keys))]
			return key, from.MapIndex(key).Interface().(client.Object).DeepCopyObject().(client.Object)
		}
	}
	return reflect.Value{}, nil
}

// become gives the new form of an object: with the contents of another one, under its own name.
func become(was, is client.Object) client.Object {
	is.SetNamespace(was.GetNamespace())
	is.SetName(was.GetName())
	is.SetUID(was.GetUID())
	is.SetCreationTimestamp(was.GetCreationTimestamp())
	is.SetGeneration(was.GetGeneration() + 1)
	if s := reflect.ValueOf(is).Elem().FieldByName("Status"); s.IsValid() {
		s.Set(reflect.ValueOf(was.DeepCopyObject()).Elem().FieldByName("Status"))
	}
	return is
}

// change does one thing to the world, mostly to a route.
func (w *world) change() {
	kind := w.kinds[w.IntN(len(w.kinds))]
	if w.IntN(3) > 0 {
		kind = []string{"HTTPRoutes", "HTTPRoutes", "GRPCRoutes"}[w.IntN(3)]
	}
	keys := keysOf(w.all(kind))
	if len(keys) == 0 || w.IntN(8) == 0 { // added, or made anew under its name
		if key, o := w.donor(kind); o != nil {
			o.SetUID("")
			w.put(kind, key, o)
		}
		return
	}
	key := keys[w.IntN(len(keys))]
	was := w.get(kind, key)
	is := was.DeepCopyObject().(client.Object)
	switch w.IntN(10) {
	case 0:
		w.renew(kind, key).SetMapIndex(key, reflect.Value{})
		return
	case 1: // nothing that anybody reads, or a status
	case 2:
		is.SetAnnotations(map[string]string{v1beta1.AnnotationRelease: "shop/web"})
	case 3:
		is.SetAnnotations(nil)
		is.SetLabels(map[string]string{"team": fmt.Sprint(w.IntN(2))})
	case 4, 5:
		w.move(is)
	default:
		_, other := w.donor(kind)
		if other == nil {
			return
		}
		spec := reflect.ValueOf(other).Elem().FieldByName("Spec")
		if rules := spec; spec.IsValid() && w.IntN(4) > 0 {
			if rules = spec.FieldByName("Rules"); rules.IsValid() {
				reflect.ValueOf(is).Elem().FieldByName("Spec").FieldByName("Rules").Set(rules)
				is.SetGeneration(is.GetGeneration() + 1)
				break
			}
		}
		is = become(was, other)
	}
	w.put(kind, key, is)
}

// move changes where a route attaches: its parents or hostnames become those of another one.
func (w *world) move(o client.Object) {
	spec := reflect.ValueOf(o).Elem().FieldByName("Spec")
	from := []string{"HTTPRoutes", "GRPCRoutes"}[w.IntN(2)]
	_, other := w.donor(from)
	if other == nil || !spec.IsValid() {
		return
	}
	field := []string{"Hostnames", "ParentRefs"}[w.IntN(2)]
	if value := spec.FieldByName(field); value.IsValid() {
		value.Set(reflect.ValueOf(other).Elem().FieldByName("Spec").FieldByName(field))
		o.SetGeneration(o.GetGeneration() + 1)
	}
}

// settings changes what is no object.
func (w *world) settings() {
	w.other = true
	switch w.IntN(4) {
	case 0:
		w.res.IPv6 = !w.res.IPv6
	case 1:
		w.res.ExternalNames = !w.res.ExternalNames
	case 2:
		w.res.SystemAuthorities = []byte(fmt.Sprint("authority ", w.IntN(2)))
	default:
		w.res.Denied = maps.Clone(w.res.Denied)
		for _, key := range keysOf(reflect.ValueOf(w.res.Secrets)) {
			if w.IntN(2) == 0 {
				w.res.Denied[graph.Reference{Kind: graph.KindSecret, NamespacedName: key.Interface().(types.NamespacedName)}] = true
			}
		}
	}
}

// record writes the statuses to the world, as the reconciler does, and gives the objects that it wrote.
func (w *world) record(updates []status.Update) map[types.UID]client.Object {
	written := map[types.UID]client.Object{}
	for _, u := range updates {
		for _, kind := range w.kinds {
			if w.all(kind).Type().Elem() != reflect.TypeOf(u.New) {
				continue
			}
			for _, key := range keysOf(w.all(kind)) {
				if w.get(kind, key).GetUID() == u.New.GetUID() {
					o := u.New.DeepCopyObject().(client.Object)
					w.put(kind, key, o)
					written[o.GetUID()] = o
				}
			}
		}
	}
	return written
}

// next makes the next graph, of the routes that differ where nothing else does.
func (w *world) next(b *graph.Builder, former *graph.Graph) (*graph.Graph, []graph.Change, bool) {
	keys, told := w.touched, !w.other
	w.touched, w.other = nil, false
	if told {
		if changed, ok := b.Renew(w.res, keys); ok {
			return former, changed, true
		}
	}
	return b.Build(w.res), nil, false
}

// moved counts the routes that came, went or attach elsewhere.
func moved(changes []graph.Change) int {
	n := 0
	for _, c := range changes {
		if c.Moved() {
			n++
		}
	}
	return n
}

// programmed is some account of the proxies.
func (w *world) programmed(g *graph.Graph) status.Programmed {
	out := status.Programmed{}
	for _, gw := range g.Gateways {
		state := status.State{Addresses: []string{"192.0.2.1"}, Ready: 1, Acked: 5, Answered: 5, Since: map[status.ObjectKey]uint64{}}
		for _, route := range g.Routes {
			state.Since[status.ObjectKey{Kind: string(route.Kind), NamespacedName: route.Key}] = uint64(w.IntN(8))
		}
		out[gw.Key] = state
	}
	return out
}

// useWritten points routes to what was written, which the reconciler does while its cache is behind.
func useWritten(g *graph.Graph, written map[types.UID]client.Object) {
	for _, route := range g.Routes {
		if o := written[route.Source.GetUID()]; o != nil {
			route.Source = o
		}
	}
}

// TestWhateverChangesAnUpdateEqualsWhatIsMadeAnew changes objects of every kind at random, and
// compares the configuration, to the byte, and the statuses with what a graph and a
// translation give that remember nothing.
func TestWhateverChangesAnUpdateEqualsWhatIsMadeAnew(t *testing.T) {
	pair := map[string][]byte{}
	pool := []graph.Resources{manyRoutes(6)}
	for _, c := range goldens.Cases(t) {
		pool = append(pool, c.Resources)
		for _, s := range c.Resources.Secrets {
			if len(s.Data["tls.crt"]) > 0 {
				pair = s.Data
			}
		}
	}
	for seed := range int64(6) {
		pool = append(pool, goldens.Arbitrary(seed), goldens.Plausible(seed, [5]int32{80, 81, 443, 444, 53}, pair))
	}
	updates, builds, moves := 0, 0, 0
	for seed := range uint64(200) {
		w := newWorld(seed, pool)
		builder, translator := graph.Builder{}, xds.Translator{}
		snaps, now := map[types.NamespacedName]xds.Snapshot{}, metav1.NewTime(time.Unix(1e9, 0))
		var g *graph.Graph
		for step := range 15 {
			for range 1 + w.IntN(2) {
				w.change()
			}
			if w.IntN(15) == 0 {
				w.settings()
			}
			if seed%2 == 0 { // policies keep a graph from being renewed for other backends
				w.res.BackendTLSPolicies, w.res.XBackends, w.res.XBackendTrafficPolicies = nil, nil, nil
			}
			is, changed, ok := w.next(&builder, g)
			g = is
			if updates++; !ok {
				updates, builds = updates-1, builds+1
			}
			fresh := graph.Build(w.res)
			for _, gw := range fresh.Gateways {
				is, told := brought(&translator, g, gw.Key, changed, ok, snaps[gw.Key])
				want := xds.Translate(fresh, gw.Key)
				if snaps[gw.Key] = is; told {
					moves += moved(changed)
				}
				if names := differing(t, is, want); len(names) > 0 {
					t.Fatalf("seed %d, step %d: of Gateway %s differ %v", seed, step, gw.Key, names)
				}
				if !maps.Equal(is.ClusterKeys, want.ClusterKeys) {
					t.Fatalf("seed %d, step %d: of Gateway %s the upstreams differ", seed, step, gw.Key)
				}
			}
			if a, b := graph.MissingServices(g.Routes, w.res), graph.MissingServices(fresh.Routes, w.res); !slices.Equal(a, b) {
				t.Fatalf("seed %d, step %d: missing Services %v, want %v", seed, step, a, b)
			}
			programmed := w.programmed(fresh)
			got := status.Updates(g, programmed, w.res.ControllerName, now)
			want := status.Updates(fresh, programmed, w.res.ControllerName, now)
			if len(got) != len(want) {
				t.Fatalf("seed %d, step %d: %d statuses are written, want %d", seed, step, len(got), len(want))
			}
			for i := range want {
				if !equality.Semantic.DeepEqual(got[i].New, want[i].New) {
					t.Fatalf("seed %d, step %d: the status of %T %s differs", seed, step, want[i].New, client.ObjectKeyFromObject(want[i].New))
				}
			}
			if w.IntN(2) == 0 {
				useWritten(g, w.record(got))
			}
		}
	}
	if updates < 100 || builds < 100 || moves < 200 {
		t.Errorf("%d updates with %d routes that moved, and %d builds are too few to say anything", updates, moves, builds)
	}
	t.Logf("%d updates with %d routes that moved, %d builds", updates, moves, builds)
}
