// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/status"
)

// renew brings the graph up to date when nothing but some routes differs, and the statuses of some
// Gateways and ListenerSets, by reading those alone. It gives the changes of routes, or false when everything
// has to be looked at.
func (r *reconciler) renew(ctx context.Context, differ differing) ([]graph.Change, bool, error) {
	if r.graph == nil || !r.due.IsZero() && !r.options.Now().Before(r.due) {
		return nil, false, nil
	}
	for key := range differ.parents {
		was := r.resources.Parent(key)
		if err := r.kinds.readParent(ctx, &r.resources, key); err != nil {
			return nil, false, err
		}
		if !r.builder.Refresh(r.resources, key, was) {
			return nil, false, nil
		}
	}
	for key := range differ.routes {
		if err := r.kinds.readRoute(ctx, &r.resources, key); err != nil {
			return nil, false, err
		}
	}
	changes, ok := r.builder.Renew(r.resources, slices.Collect(maps.Keys(differ.routes)))
	if !ok || r.anyMissing(changes) {
		return nil, false, nil
	}
	if r.unsettled != nil {
		maps.Copy(r.unsettled.Routes, differ.routes)
		maps.Copy(r.unsettled.Parents, differ.parents)
		for _, c := range changes {
			r.unsettled.Add(c)
		}
	}
	return changes, true, nil
}

// anyMissing tells whether routes refer to Services that are not there, or not yet.
func (r *reconciler) anyMissing(changes []graph.Change) bool {
	for _, c := range changes {
		if c.Is != nil && len(graph.MissingServices([]*graph.Route{c.Is}, r.resources)) > 0 {
			return true
		}
	}
	return false
}

// bring makes the pass after renew.
func (r *reconciler) bring(ctx context.Context, differ differing, changes []graph.Change, first time.Time) (reconcile.Result, error) {
	published := r.update(ctx, changes, first)
	r.beginPatience()
	applied := r.renewProxies(ctx, differ.proxies)
	result, recorded := r.record(ctx)
	err := errors.Join(published, applied, recorded)
	if err != nil {
		r.happened.anything()
	}
	return r.untilDue(result), err
}

// renewProxies brings the infrastructure of some Gateways to what it should be. Statuses tell of it, and
// what it takes the place of goes.
func (r *reconciler) renewProxies(ctx context.Context, of map[types.NamespacedName]bool) error {
	if len(of) == 0 {
		return nil
	}
	part := &graph.Graph{}
	for _, gw := range r.graph.Gateways {
		if of[gw.Key] {
			part.Gateways = append(part.Gateways, gw)
		}
	}
	before := maps.Clone(r.proxies)
	due, applied := r.applyAll(ctx, part, r.resources)
	r.dueIn(due)
	for _, gw := range part.Gateways {
		if r.unsettled != nil && !reflect.DeepEqual(r.proxies[gw.Key], before[gw.Key]) {
			r.unsettled.Parents[graph.ParentKey{Kind: graph.KindGateway, NamespacedName: gw.Key}] = true
			for _, l := range gw.Listeners {
				if l.Set != nil {
					r.unsettled.Parents[graph.ParentKey{Kind: graph.KindListenerSet, NamespacedName: l.Set.Key}] = true
				}
			}
		}
	}
	return errors.Join(applied, r.removeLeftovers(ctx, r.resources))
}

// update gives each Gateway's proxies what differs by the changed routes.
func (r *reconciler) update(ctx context.Context, changes []graph.Change, first time.Time) error {
	var failures []error
	for _, gw := range r.graph.Gateways {
		if !gw.Valid {
			continue
		}
		if err := r.updateOne(ctx, gw, changes, first); err != nil {
			failures = append(failures, fmt.Errorf("publishing the endpoints of Gateway %s: %w", gw.Key, err))
		}
	}
	return errors.Join(failures...)
}

func (r *reconciler) updateOne(ctx context.Context, gw *graph.Gateway, changes []graph.Change, first time.Time) error {
	before := r.published[gw.Key]
	if before == nil {
		return r.publishOne(ctx, r.graph, gw, first)
	}
	delta, ok := r.translator.Update(gw.Key, changes)
	if !ok {
		return r.publishOne(ctx, r.graph, gw, first)
	}
	answered := r.options.Server.State(gw.Key).Answered
	version := before.version
	if !delta.Empty() {
		if err := r.endpoints.more(ctx, gw.Key, delta.ClusterKeys, delta.Gone); err != nil {
			return err // what differs is part of the next translation of the whole
		}
		if version, ok = r.options.Server.Update(delta); !ok {
			return r.publishOne(ctx, r.graph, gw, first)
		}
	}
	if version != before.version {
		r.options.Metrics.Published(gw.Key, first)
	}
	before.version = version
	now := carried{version: version, at: r.options.Now()}
	for _, c := range changes {
		key := status.ObjectKey{Kind: string(c.Key().Kind), NamespacedName: c.Key().NamespacedName}
		old, known := before.since[key]
		if delete(before.since, key); carries(gw, c.Is) {
			before.since[key] = now.accounted(c.Is.Source, old, known, answered)
		}
	}
	return nil
}

// carries tells whether a route is part of the configuration of a Gateway's proxies.
func carries(gw *graph.Gateway, route *graph.Route) bool {
	return slices.ContainsFunc(route.Attachments(), func(a *graph.Attachment) bool { return a.Listener.Gateway == gw && a.Listener.Valid })
}

// refused tells whether proxies refuse anything.
func (r *reconciler) refused() bool {
	for key := range r.published {
		if state := r.options.Server.State(key); len(state.Refused)+len(state.Isolated) > 0 {
			return true
		}
	}
	return false
}

// connected are the Gateways that have proxies.
func (r *reconciler) connected() map[types.NamespacedName]bool {
	out := map[types.NamespacedName]bool{}
	for key := range r.published {
		if r.options.Server.State(key).Connected > 0 {
			out[key] = true
		}
	}
	return out
}
