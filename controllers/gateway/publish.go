// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/server"
	"headgate.dev/headgate/dataplane/status"
	"headgate.dev/headgate/dataplane/xds"
)

// published is what the proxies of one Gateway were given.
type published struct {
	version uint64
	// since tells, for each object in the configuration, its generation and the
	// version that first carried it. So a route is programmed when its own change
	// was acknowledged, however fast others follow.
	since map[status.ObjectKey]carried
}

type carried struct {
	uid        types.UID
	generation int64
	version    uint64
	// at is when the object changed first after the last change that the proxies answered.
	at time.Time
}

// publish gives each Gateway's proxies their configuration. A Gateway that is not
// accepted keeps what it has; one that is gone is withdrawn. First is when the first event
// came that led to this pass.
func (r *reconciler) publish(ctx context.Context, g *graph.Graph, first time.Time) error {
	var failures []error
	here := map[types.NamespacedName]bool{}
	for _, gw := range g.Gateways {
		here[gw.Key] = true
		if !gw.Valid {
			continue
		}
		if err := r.publishOne(ctx, g, gw, first); err != nil {
			failures = append(failures, fmt.Errorf("publishing the endpoints of Gateway %s: %w", gw.Key, err))
		}
	}
	for key := range r.published {
		if !here[key] {
			r.options.Server.Withdraw(key)
			r.translator.Forget(key)
			r.options.Metrics.Forget(key)
			r.endpoints.forget(key)
			delete(r.published, key)
			delete(r.identities, key)
			delete(r.proxies, key)
			maps.DeleteFunc(r.applied, func(_ objectKey, a applied) bool { return a.gateway == key })
		}
	}
	return errors.Join(failures...)
}

// publishOne gives the proxies of one Gateway the whole of their configuration.
func (r *reconciler) publishOne(ctx context.Context, g *graph.Graph, gw *graph.Gateway, first time.Time) error {
	snapshot := r.translator.Translate(g, gw.Key)
	if err := r.endpoints.ensure(ctx, gw.Key, snapshot.ClusterKeys); err != nil {
		return err
	}
	var answered uint64
	var known map[status.ObjectKey]carried
	before := r.published[gw.Key]
	if before != nil {
		answered, known = r.options.Server.State(gw.Key).Answered, before.since
	}
	version := r.options.Server.Publish(snapshot)
	if before == nil || before.version != version {
		r.options.Metrics.Published(gw.Key, first)
	}
	r.published[gw.Key] = &published{version: version, since: since(gw, known, carried{version: version, at: r.options.Now()}, answered)}
	return nil
}

// since renews the account of a Gateway's objects for what is published now. The proxies
// have answered all versions up to answered.
func since(gw *graph.Gateway, before map[status.ObjectKey]carried, now carried, answered uint64) map[status.ObjectKey]carried {
	out := map[status.ObjectKey]carried{}
	put := func(key status.ObjectKey, o client.Object) {
		old, known := before[key]
		out[key] = now.accounted(o, old, known, answered)
	}
	put(status.ObjectKey{Kind: "Gateway", NamespacedName: gw.Key}, gw.Source)
	for _, l := range gw.Listeners {
		if !l.Valid {
			continue
		}
		if l.Set != nil {
			put(status.ObjectKey{Kind: "ListenerSet", NamespacedName: l.Set.Key}, l.Set.Source)
		}
		for _, a := range l.Attachments {
			put(status.ObjectKey{Kind: string(a.Route.Kind), NamespacedName: a.Route.Key}, a.Route.Source)
		}
	}
	return out
}

// accounted gives the account of an object as it is published now, after the one that was known of it.
func (now carried) accounted(o client.Object, before carried, known bool, answered uint64) carried {
	c := carried{uid: o.GetUID(), generation: o.GetGeneration(), version: now.version, at: now.at}
	switch {
	case known && before.uid == c.uid && before.generation == c.generation:
		return before
	case known && before.version > answered:
		c.at = before.at
	}
	return c
}

// concerning is the account of the objects of a graph or of a part of it.
func (r *reconciler) concerning(g *graph.Graph, p *published) map[status.ObjectKey]carried {
	if g == r.graph {
		return p.since
	}
	out := map[status.ObjectKey]carried{}
	put := func(kind string, key types.NamespacedName) {
		object := status.ObjectKey{Kind: kind, NamespacedName: key}
		if c, ok := p.since[object]; ok {
			out[object] = c
		}
	}
	for _, gw := range g.Gateways {
		put(string(graph.KindGateway), gw.Key)
	}
	for _, set := range g.ListenerSets {
		put(string(graph.KindListenerSet), set.Key)
	}
	for _, route := range g.Routes {
		put(string(route.Kind), route.Key)
	}
	return out
}

// programmed is what is known about the proxies now, as far as it concerns a graph or a part of it.
func (r *reconciler) programmed(g *graph.Graph) status.Programmed {
	out := status.Programmed{}
	for key, p := range r.published {
		state := r.options.Server.State(key)
		infra := r.proxies[key]
		s := status.State{
			Addresses: infra.addresses, Ready: infra.ready, Problem: infra.problem,
			Acked: state.Acked, Answered: state.Answered, Since: map[status.ObjectKey]uint64{},
			Harmed: map[status.ObjectKey]string{}, Refused: map[status.ObjectKey][]graph.Problem{},
		}
		for object, c := range r.concerning(g, p) {
			s.Since[object] = c.version
		}
		for _, i := range state.Isolated {
			route := status.ObjectKey{Kind: string(i.Rule.Kind), NamespacedName: i.Rule.Route}
			if i.Searching {
				delete(s.Since, route) // it is not served yet, whatever the proxies confirm
				s.Harmed[route] = "the proxies refused the route table with this route in it; the rule to blame is being looked for: " + i.Message
				continue
			}
			s.Refused[route] = append(s.Refused[route], graph.RuleRefused(i.Rule.Index, i.Message))
		}
		for i := len(state.Refused) - 1; i >= 0; i-- { // the first has the last word
			nack := state.Refused[i]
			routes := xds.Dependents(r.graph, key, nack.TypeURL, nack.Resource)
			s.Refusal = refusal(nack, routes)
			for _, route := range routes {
				s.Harmed[status.ObjectKey{Kind: string(route.Kind), NamespacedName: route.Key}] = s.Refusal
			}
		}
		out[key] = s
	}
	return out
}

// namedRoutes bounds how many routes a sentence names.
const namedRoutes = 5

func refusal(nack server.Nack, routes []*graph.Route) string {
	_, kind, _ := strings.Cut(nack.TypeURL, "/")
	kind = kind[strings.LastIndex(kind, ".")+1:]
	var names []string
	for i, route := range routes {
		if i == namedRoutes {
			names = append(names, fmt.Sprintf("%d more", len(routes)-i))
			break
		}
		names = append(names, fmt.Sprintf("%s %s", route.Kind, route.Key))
	}
	carries := ""
	if len(names) > 0 {
		carries = ", which carries " + strings.Join(names, ", ") + ","
	}
	return fmt.Sprintf("a proxy refused the %s %q%s and keeps the former one: %s", kind, nack.Resource, carries, nack.Message)
}

// acknowledged tells whether every connected proxy has answered what was published last.
func (r *reconciler) acknowledged() bool {
	for key := range r.published {
		if state := r.options.Server.State(key); state.Connected > 0 && state.Answered < state.Published {
			return false
		}
	}
	return true
}

// collect drops what no proxy can still be using.
func (r *reconciler) collect() {
	if !r.acknowledged() {
		return
	}
	if again := r.endpoints.collect(r.options.Now()); again > 0 {
		r.options.Changes.notifyAfter(again)
	}
}
