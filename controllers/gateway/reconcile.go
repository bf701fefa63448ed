// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/pki"
	"headgate.dev/headgate/dataplane/status"
	"headgate.dev/headgate/dataplane/xds"
)

// reconciler holds what the passes remember. Only the single worker of its
// queue touches it.
type reconciler struct {
	client     client.Client
	direct     client.Reader
	options    Options
	controller string
	// defaults are how proxies run where no ProxyConfig says something.
	defaults  v1beta1.ProxyConfigSpec
	kinds     *kinds
	endpoints *endpoints
	needed    *needed
	written   *written
	events    events.EventRecorder
	// told are the refusals that an event was written for.
	told map[string]bool
	// lateServices are those that the cache does not have, any more or yet.
	lateServices *late[*corev1.Service]

	// builder and translator remember what they made in the pass before.
	builder    graph.Builder
	translator xds.Translator
	// happened is what the watches told since the last pass.
	happened *news
	// graph is that of the last pass over the world, resources what it was made from.
	graph     *graph.Graph
	resources graph.Resources
	// due is when the next pass over everything has to be made, whatever happens; zero for never.
	due time.Time
	// unsettled are the objects whose statuses have to be looked at; nil for all.
	unsettled *graph.Selection
	// had are the Gateways that had proxies when all statuses were settled.
	had map[types.NamespacedName]bool
	// patience is until when statuses wait for acknowledgements; zero while none wait.
	patience time.Time
	// published is what the proxies of each Gateway were given.
	published map[types.NamespacedName]*published
	// wrote is when the status of each object was written, for as long as that matters.
	wrote map[types.UID]time.Time
	// proxies is what is known about the infrastructure of each Gateway.
	proxies map[types.NamespacedName]proxies
	// identities are the proxies' certificates, applied what was last applied.
	identities map[types.NamespacedName]pki.Identity
	applied    map[objectKey]applied
}

// Reconcile makes one pass. A pass over the world ends with the statuses; news
// from the proxies needs those alone.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if req == statusKey && r.graph != nil {
		return r.record(ctx) // what is due is asked for under another key
	}
	first := r.options.Metrics.Take()
	if differ, only := r.happened.take(); only {
		changes, ok, err := r.renew(ctx, differ)
		if err != nil {
			return reconcile.Result{}, r.again(first, fmt.Errorf("reading routes: %w", err))
		}
		if ok {
			return r.bring(ctx, differ, changes, first)
		}
	}
	return r.whole(ctx, first)
}

// again keeps what a pass that failed should have brought for the next one, which looks at everything.
func (r *reconciler) again(first time.Time, err error) error {
	r.options.Metrics.PutBack(first)
	r.happened.anything()
	r.unsettled = nil
	return err
}

// whole makes a pass over everything.
func (r *reconciler) whole(ctx context.Context, first time.Time) (reconcile.Result, error) {
	resources, err := r.gather(ctx)
	if err != nil {
		return reconcile.Result{}, r.again(first, fmt.Errorf("gathering resources: %w", err))
	}
	g, late, err := r.build(ctx, resources)
	if err != nil {
		return reconcile.Result{}, r.again(first, fmt.Errorf("building the graph: %w", err))
	}
	r.graph, r.resources, r.unsettled = g, resources, nil
	published := r.publish(ctx, r.graph, first)
	r.options.Metrics.Certificates(r.graph)
	r.beginPatience()
	r.due = time.Time{}
	r.dueIn(late)
	due, applied := r.applyAll(ctx, r.graph, resources)
	r.dueIn(due)
	removed := r.removeLeftovers(ctx, resources)
	result, recorded := r.record(ctx)
	// A part that failed does not keep the others from being done.
	err = errors.Join(published, applied, removed, recorded)
	if err != nil {
		r.happened.anything()
	}
	return r.untilDue(result), err
}

// dueIn asks for a pass over everything after a time, unless one is due earlier; 0 asks for none.
func (r *reconciler) dueIn(d time.Duration) {
	if at := r.options.Now().Add(d); d > 0 && (r.due.IsZero() || at.Before(r.due)) {
		r.due = at
	}
}

// beginPatience begins the wait for acknowledgements, unless it has begun: else it would never
// end while the world keeps changing.
func (r *reconciler) beginPatience() {
	if r.patience.IsZero() {
		r.patience = r.options.Now().Add(ackPatience)
	}
}

// untilDue sees to it that the pass comes that is due: a shorter wait for another reason
// would take its place.
func (r *reconciler) untilDue(result reconcile.Result) reconcile.Result {
	if r.due.IsZero() {
		return result
	}
	if wait := max(r.due.Sub(r.options.Now()), time.Millisecond); result.RequeueAfter == 0 || wait < result.RequeueAfter {
		result.RequeueAfter = wait
	}
	return result
}

// ackPatience is how long a status waits for the proxies' acknowledgement, which
// usually takes milliseconds: so a change costs one write, not one that says
// Pending and one that says Programmed.
const ackPatience = 100 * time.Millisecond

// conflictDelay is how long the cache may take to show what a refused write missed.
const conflictDelay = 50 * time.Millisecond

// statusWriters is how many statuses are written at once.
const statusWriters = 8

// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=gatewayclasses/status;gateways/status;listenersets/status;httproutes/status;grpcroutes/status;tlsroutes/status;tcproutes/status;udproutes/status;backendtlspolicies/status,verbs=patch
// +kubebuilder:rbac:groups=gateway.networking.x-k8s.io,resources=xbackends/status;xbackendtrafficpolicies/status,verbs=patch

// record writes the statuses that differ from what the objects have.
func (r *reconciler) record(ctx context.Context) (reconcile.Result, error) {
	if wait := r.patience.Sub(r.options.Now()); wait > 0 && !r.acknowledged() {
		r.options.Changes.notifyAfter(wait) // or earlier, by the server
		return reconcile.Result{}, nil
	}
	r.patience = time.Time{}
	g := r.graph
	acknowledged, refused, connected := r.acknowledged(), r.refused(), r.connected()
	if refused || !maps.Equal(connected, r.had) {
		r.unsettled = nil // others may be concerned
	}
	var rest *graph.Selection
	if r.unsettled != nil {
		now := r.unsettled
		if acknowledged && !refused { // else all have to be looked at again in any case
			now, rest = r.unsettled.Split(statusBatch)
		}
		g = r.builder.Part(now)
	}
	r.useLatest(g)
	programmed := r.programmed(g)
	if g == r.graph {
		r.tell(programmed)
	}
	now := r.options.Now()
	wanted := status.Updates(g, programmed, r.controller, metav1.NewTime(now))
	updates, wait := r.pace(g, programmed, now).Due(wanted, now)
	if wait > 0 {
		r.options.Changes.notifyAfter(wait) // no status stays behind
	}
	due := len(updates)
	updates, conflict, err := r.writeAll(ctx, updates)
	for _, u := range updates {
		r.wrote[u.New.GetUID()] = now
	}
	if len(updates) < due || !rest.Empty() {
		r.options.Changes.notifyAfter(statusPause)
	}
	r.collect()
	switch {
	case err != nil:
		return reconcile.Result{}, err
	case conflict:
		return reconcile.Result{RequeueAfter: conflictDelay}, nil
	case acknowledged && !refused:
		r.unsettled, r.had = waiting(wanted, updates), connected
		r.unsettled.Join(rest)
	}
	return reconcile.Result{}, nil
}

// waiting selects the objects whose statuses are not written yet; nil if single ones cannot be selected.
func waiting(wanted, written []status.Update) *graph.Selection {
	out := graph.NewSelection()
	for _, u := range wanted {
		if len(written) > 0 && written[0].New == u.New { // in the same order
			written = written[1:]
			continue
		}
		switch key := client.ObjectKeyFromObject(u.New); u.New.(type) {
		case *gwv1.Gateway:
			out.Parents[graph.ParentKey{Kind: graph.KindGateway, NamespacedName: key}] = true
		case *gwv1.ListenerSet:
			out.Parents[graph.ParentKey{Kind: graph.KindListenerSet, NamespacedName: key}] = true
		case *gwv1.HTTPRoute:
			out.Routes[graph.RouteKey{Kind: graph.KindHTTPRoute, NamespacedName: key}] = true
		case *gwv1.GRPCRoute:
			out.Routes[graph.RouteKey{Kind: graph.KindGRPCRoute, NamespacedName: key}] = true
		default:
			return nil
		}
	}
	return out
}

// statusBatch is how many routes a pass makes the statuses of when it need not look at all.
const statusBatch = 256

// statusPause is how long statuses wait after those of a pass that events cut short, or that had enough.
const statusPause = time.Millisecond

// writeAll writes statuses, several at once, and gives those that it came to: thousands take the API server a while, so
// that after the first few it ends as soon as events ask for another pass. Conflict tells that one was changed by
// somebody else.
func (r *reconciler) writeAll(ctx context.Context, updates []status.Update) (done []status.Update, conflict bool, err error) {
	conflicts := make([]bool, len(updates))
	failures := make([]error, len(updates))
	var writers errgroup.Group
	writers.SetLimit(statusWriters)
	for i, u := range updates {
		if i >= statusWriters && r.happened.awaits() {
			updates = updates[:i]
			break
		}
		writers.Go(func() error {
			conflicts[i], failures[i] = r.write(ctx, u)
			return nil
		})
	}
	_ = writers.Wait() // failures has them all
	return updates, slices.Contains(conflicts, true), errors.Join(failures...)
}

// pace is what tells which statuses had better wait. It goes by the answers that the
// statuses tell of: one that has come since wakes the reconciler.
func (r *reconciler) pace(g *graph.Graph, p status.Programmed, now time.Time) status.Pace {
	maps.DeleteFunc(r.wrote, func(_ types.UID, at time.Time) bool { return now.Sub(at) > status.Settling })
	unanswered := map[types.UID]time.Time{}
	for key, published := range r.published {
		answered := p[key].Answered
		if answered == 0 || answered >= published.version { // 0 before there is a proxy to wait for
			continue
		}
		for _, c := range r.concerning(g, published) {
			if c.version > answered {
				unanswered[c.uid] = c.at
			}
		}
	}
	return status.Pace{Written: r.wrote, Unanswered: unanswered}
}

// write patches one status. The lists in it are replaced whole, so the patch
// carries the resource version: an entry that somebody else added meanwhile makes
// it a conflict, not a loss.
func (r *reconciler) write(ctx context.Context, u status.Update) (conflict bool, err error) {
	patch := client.MergeFromWithOptions(u.Old, client.MergeFromWithOptimisticLock{})
	switch err := r.client.Status().Patch(ctx, u.New, patch); {
	case apierrors.IsConflict(err):
		return true, nil
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("writing the status of %T %s: %w", u.New, client.ObjectKeyFromObject(u.New), err)
	}
	r.written.add(u.New)
	return false, nil
}

// useLatest makes the graph's nodes point to objects with the statuses that we
// wrote already, where their specs are the same.
func (r *reconciler) useLatest(g *graph.Graph) {
	for _, c := range g.Classes {
		useLatest(r.written, &c.Source)
	}
	for _, gw := range g.Gateways {
		useLatest(r.written, &gw.Source)
	}
	for _, set := range g.ListenerSets {
		useLatest(r.written, &set.Source)
	}
	for _, p := range g.Policies {
		useLatest(r.written, &p.Source)
	}
	for _, x := range g.XBackends {
		useLatest(r.written, &x.Source)
	}
	for _, p := range g.TrafficPolicies {
		useLatest(r.written, &p.Source)
	}
	for _, route := range g.Routes {
		useLatest(r.written, &route.Source)
	}
}

func useLatest[O client.Object](w *written, source *O) {
	if o, ok := w.latest(*source).(O); ok && o.GetGeneration() == (*source).GetGeneration() {
		*source = o
	}
}
