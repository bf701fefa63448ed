// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package canary runs the releases that package rollout decides: each pass
// gathers what was seen of the cluster, asks for a decision, records the
// Canary's status and applies the actions.
//
//	gather.go      objects → observation, with services.go, pods.go, routes.go, templates.go
//	route.go       the arithmetic and the edits of a route, pure
//	apply.go       action → API writes, one function per action
//	divert.go      the way back that does not wait for those
//	watches.go     which change concerns which Canary
//	record.go      status → the Release, the record of the attempt
package canary

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/measure"
	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/controllers/canary/meter"
	"headgate.dev/headgate/controllers/rollout"
)

// fieldManager is the name under which Headgate's changes are recorded.
const fieldManager = "headgate"

// Measurer follows the releases under way. Its methods never wait.
type Measurer interface {
	// Follow says what is known of a release, and goes on with it.
	Follow(key types.NamespacedName, r measure.Release) analysis.Verdict
	// Hold stops counting until the next confirmed weight.
	Hold(key types.NamespacedName)
	// Evidence gives the state of a release as JSON, nil for none: see measure.Release.Saved.
	Evidence(key types.NamespacedName) []byte
	// Forget drops a Canary.
	Forget(key types.NamespacedName)
}

// Options are what the reconciler works with.
type Options struct {
	// Measurer is required.
	Measurer Measurer
	// Answered names Canaries of which the Measurer has news. May be nil.
	Answered <-chan types.NamespacedName
	// Diversions take traffic back ahead of the routes. Nil: the routes alone do.
	Diversions *Diversions
	// Meter is told what each pass recorded. May be nil.
	Meter *meter.Meter
	// Now is the clock. Required.
	Now func() time.Time
	// WatchNamespaces are the namespaces of the manager's cache; empty is all.
	WatchNamespaces []string
	// Concurrency is how many Canaries are looked after at a time. Default 4.
	Concurrency int
}

// reconciler looks after one Canary at a time.
type reconciler struct {
	client   client.Client // reads from the cache, and waits for its own writes there
	live     client.Reader // reads from the API server
	events   events.EventRecorder
	options  Options
	hasGRPC  bool
	hasRoute bool
	// refused is what the API server said to the last write, by Canary. It is
	// lost with the process; the next write asks again.
	refused sync.Map
	// listenerSets remembers parentGateways by the ListenerSet's name.
	listenerSets sync.Map
	// unrecorded is what was said last of a Release that cannot be written, by Canary.
	unrecorded sync.Map
	// resumed is the attempt of which the measurer was given what was recorded, by Canary.
	resumed sync.Map
}

// +kubebuilder:rbac:groups=headgate.dev,resources=canaries,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=headgate.dev,resources=canaries/status,verbs=patch
// +kubebuilder:rbac:groups=headgate.dev,resources=canaries/finalizers,verbs=update
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile makes one pass for a Canary.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	c := &v1beta1.Canary{}
	if err := r.client.Get(ctx, req.NamespacedName, c); err != nil {
		if apierrors.IsNotFound(err) {
			r.options.Measurer.Forget(req.NamespacedName)
			r.options.Diversions.end(req.NamespacedName)
			r.refused.Delete(req.NamespacedName)
			r.unrecorded.Delete(req.NamespacedName)
			r.resumed.Delete(req.NamespacedName)
			r.options.Meter.Forget(req.NamespacedName)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("reading the Canary: %w", err)
	}
	now := r.options.Now()
	w, err := r.gather(ctx, c, now)
	if err != nil {
		return settled(err)
	}
	if said, ok := r.refused.Load(req.NamespacedName); ok {
		w.seen.Failure = said.(string)
	}
	d := rollout.Decide(rollout.Input{Canary: c, Seen: w.seen, Now: now})
	r.divert(req.NamespacedName, w, d)

	if release := d.Status.Release; release == nil || release.ConfirmedAt == nil {
		// What the proxies report from here on may be of another weight already.
		r.options.Measurer.Hold(req.NamespacedName)
	}
	var failed error
	if d.Urgent {
		// What takes traffic back comes first. Where it fails, the status is
		// recorded all the same and the next pass asks for it again.
		failed = r.told(req.NamespacedName, r.apply(ctx, w, d.Actions))
	}
	if err := r.record(ctx, w, d, now); err != nil {
		return settled(errors.Join(failed, fmt.Errorf("recording the status: %w", err)))
	}
	r.measured(c, d, now)
	if !d.Urgent {
		failed = r.told(req.NamespacedName, r.apply(ctx, w, d.Actions))
	}
	after := r.recorded(ctx, w, d, now)
	if failed != nil {
		return settled(failed)
	}
	return reconcile.Result{RequeueAfter: after}, nil
}

// measured tells the meter what was recorded.
func (r *reconciler) measured(c *v1beta1.Canary, d rollout.Decision, now time.Time) {
	r.options.Meter.Saw(client.ObjectKeyFromObject(c), meter.Pass{
		Before: c.Status, After: d.Status, Target: c.Spec.Target.Name, CanaryService: twinName(d.Status.Service), Now: now,
		// The routes are given back once no proxy sends to the canary.
		Emptied: d.Status.Phase == v1beta1.PhaseRollingBack && slices.Contains(d.Actions, rollout.Action(rollout.EnsureRoutesRestored{})),
	})
}

// told remembers what the API server refused, for the next decision to say.
// A lost race says nothing, and neither does a connection that broke.
func (r *reconciler) told(key types.NamespacedName, err error) error {
	var status apierrors.APIStatus
	var foreign foreignError
	switch {
	case err == nil:
		r.refused.Delete(key)
	case !raced(err) && (errors.As(err, &status) || errors.As(err, &foreign)):
		r.refused.Store(key, shorten(err.Error(), 512))
	}
	return err
}

// foreignError says that a name the release needs is somebody else's.
type foreignError string

func (e foreignError) Error() string { return string(e) }

// noteLimit is how long the note of an event may be, in bytes.
const noteLimit = 1024

// shorten cuts a text to at most limit bytes, between two characters.
func shorten(s string, limit int) string {
	const mark = " …"
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len(mark)], "") + mark
}

// record writes the status if it changed, refusing to write over one it has not
// seen, and then tells what is new.
func (r *reconciler) record(ctx context.Context, w *world, d rollout.Decision, now time.Time) error {
	c := w.canary
	if !equality.Semantic.DeepEqual(c.Status, d.Status) {
		if err := r.catchUp(ctx, w, d, now); err != nil {
			return err
		}
		next := c.DeepCopy()
		next.Status = d.Status
		patch := client.MergeFromWithOptions(c, client.MergeFromWithOptimisticLock{})
		if err := r.client.Status().Patch(ctx, next, patch, client.FieldOwner(fieldManager)); err != nil {
			return err
		}
		c.ResourceVersion = next.ResourceVersion
	}
	for _, e := range d.Events {
		kind := "Normal"
		if e.Warning {
			kind = "Warning"
		}
		r.events.Eventf(c, nil, kind, e.Reason, "Release", "%s", shorten(e.Note, noteLimit))
	}
	return nil
}

// raceDelay is when to look again after an object was written by somebody else.
const raceDelay = 20 * time.Millisecond

// settled turns an error into what the queue should do about it: a lost race
// is news, not a failure.
func settled(err error) (reconcile.Result, error) {
	if raced(err) {
		return reconcile.Result{RequeueAfter: raceDelay}, nil
	}
	return reconcile.Result{}, err
}

var errChanged = errors.New("the object changed since it was read")

// raced is true where an object was not the one that was read.
func raced(err error) bool {
	for _, e := range flatten(err) {
		switch {
		case errors.Is(e, errChanged), apierrors.IsConflict(e), apierrors.IsAlreadyExists(e):
		case apierrors.IsInvalid(e) && strings.Contains(e.Error(), "rejected our request due to an error in our request"):
			// A test of a JSON patch failed.
		default:
			return false
		}
	}
	return true
}

func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range joined.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	}
	return []error{err}
}

// forbidden gives the sentence for a missing permission, if err is one.
func forbidden(err error) *rollout.Problem {
	if !apierrors.IsForbidden(err) {
		return nil
	}
	return &rollout.Problem{Reason: v1beta1.ReasonNotAllowed, Message: fmt.Sprintf(
		"Headgate may not read what the release depends on: %v. Grant it with the roles of Headgate's chart, or add this namespace to watchNamespaces.", err)}
}

// plan says what is measured of a release, or of stable alone while there is none.
func plan(w *world, spec *v1beta1.Analysis, gateways []types.NamespacedName, split splitting) analysis.Plan {
	c := w.canary
	ports := make([]int32, 0, 2)
	for _, p := range w.service.Spec.Ports {
		ports = append(ports, p.Port)
	}
	slices.Sort(ports)
	version := func(service, hash string) analysis.Version {
		v := analysis.Version{Revision: hash, Service: service, Ports: ports}
		if rs := w.sets[hash]; rs != nil {
			v.PodPattern = podPattern(rs.Name)
		}
		return v
	}
	subject := analysis.Subject{
		Namespace: c.Namespace, Canary: c.Name, Gateways: gateways, Weight: c.Status.Weight, Mixed: split.otherWays || split.sticky, OtherWays: split.otherWays,
		StableVersion: version(w.service.Name, c.Status.Stable), CanaryVersion: version(twinName(w.service.Name), ""),
	}
	if release := c.Status.Release; underway(c) && release != nil {
		subject.Attempt, subject.Step = release.Attempt, release.StepIndex+1
		subject.StableVersion = version(w.service.Name, release.Stable)
		subject.CanaryVersion = version(twinName(w.service.Name), release.Revision)
		if off := release.OffRoute; off != nil && off.Until != nil {
			subject.Resumed = off.Until.Time
		}
		if rollout.Counting(c, w.seen) {
			subject.Since = release.ConfirmedAt.Time
		}
	}
	return analysis.PlanFor(spec, subject)
}

var _ reconcile.Reconciler = (*reconciler)(nil)

// Add makes the reconciler of Canaries a part of the manager.
func Add(mgr ctrl.Manager, options Options) error {
	if options.Concurrency <= 0 {
		options.Concurrency = 4
	}
	// Own writes must be seen by the next pass. With several namespaces in the
	// cache that is not available; every write is locked by what was read anyway.
	consistent := len(options.WatchNamespaces) <= 1
	cached, err := client.New(mgr.GetConfig(), client.Options{
		Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient(),
		Cache: &client.CacheOptions{Reader: mgr.GetCache(), Unstructured: true, EnableReadYourWritesConsistency: &consistent},
	})
	if err != nil {
		return fmt.Errorf("making the operator's client: %w", err)
	}
	r := &reconciler{client: cached, live: mgr.GetAPIReader(), events: mgr.GetEventRecorder("headgate.dev/canary"), options: options}
	return r.watch(mgr)
}
