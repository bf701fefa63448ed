// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/status"
)

// renew brings the graph up to date when nothing but some routes differs, by reading
// those alone. It gives the ones that are new in content, or false when everything has to be looked at.
func (r *reconciler) renew(ctx context.Context, keys []graph.RouteKey) ([]*graph.Route, bool, error) {
	if r.graph == nil || !r.due.IsZero() && !r.options.Now().Before(r.due) {
		return nil, false, nil
	}
	for _, key := range keys {
		if here, err := r.kinds.read(ctx, &r.resources, key); err != nil || !here {
			return nil, false, err
		}
	}
	changed, ok := r.builder.Renew(r.resources, keys)
	if !ok || len(graph.MissingServices(changed, r.resources)) > 0 {
		return nil, false, nil
	}
	if r.unsettled != nil {
		for _, key := range keys {
			r.unsettled[key] = true
		}
	}
	return changed, true, nil
}

// bring makes the pass after renew.
func (r *reconciler) bring(ctx context.Context, changed []*graph.Route, first time.Time) (reconcile.Result, error) {
	published := r.update(ctx, changed, first)
	r.beginPatience()
	result, recorded := r.record(ctx)
	err := errors.Join(published, recorded)
	if err != nil {
		r.happened.anything()
	}
	return r.untilDue(result), err
}

// update gives each Gateway's proxies what differs by the changed routes.
func (r *reconciler) update(ctx context.Context, changed []*graph.Route, first time.Time) error {
	var failures []error
	for _, gw := range r.graph.Gateways {
		if !gw.Valid {
			continue
		}
		if err := r.updateOne(ctx, gw, changed, first); err != nil {
			failures = append(failures, fmt.Errorf("publishing the endpoints of Gateway %s: %w", gw.Key, err))
		}
	}
	return errors.Join(failures...)
}

func (r *reconciler) updateOne(ctx context.Context, gw *graph.Gateway, changed []*graph.Route, first time.Time) error {
	before := r.published[gw.Key]
	if before == nil {
		return r.publishOne(ctx, r.graph, gw, first)
	}
	delta, ok := r.translator.Update(gw.Key, changed)
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
	for _, route := range changed {
		key := status.ObjectKey{Kind: string(route.Kind), NamespacedName: route.Key}
		if old, here := before.since[key]; here {
			before.since[key] = now.accounted(route.Source, old, here, answered)
		}
	}
	return nil
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
