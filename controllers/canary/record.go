// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/controllers/record"
	"headgate.dev/headgate/controllers/rollout"
)

// +kubebuilder:rbac:groups=headgate.dev,resources=releases,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=headgate.dev,resources=releases/status,verbs=patch

// CacheByObject leaves of Releases that are over only what says so: their stories are read by
// people, not by Headgate.
func CacheByObject() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{&v1beta1.Release{}: {Transform: func(o any) (any, error) {
		if r, ok := o.(*v1beta1.Release); ok {
			r.ManagedFields = nil
			if record.Ended(r.Status) {
				r.Spec = v1beta1.ReleaseSpec{Canary: r.Spec.Canary, Attempt: r.Spec.Attempt}
				r.Status = v1beta1.ReleaseStatus{Outcome: r.Status.Outcome, FinishedAt: r.Status.FinishedAt, Told: r.Status.Told}
			}
		}
		return o, nil
	}}}
}

const (
	// recordTimeout bounds what a pass spends on records, whatever the API server does.
	recordTimeout = 5 * time.Second
	// recordPatience is how long a release waits for the record of the one before it.
	recordPatience = time.Minute
)

// unrecorded is what was said of a Release that cannot be written, and since when that is so.
type unrecorded struct {
	note  string
	since time.Time
}

// catchUp brings the record up to the status that was read, before another status takes its
// place: whatever a process that was killed has not written is written here. It is an error only
// where the next status is another release's, of which this one's end would be lost, and
// only for a while: releases do not depend on their records.
func (r *reconciler) catchUp(ctx context.Context, w *world, d rollout.Decision, now time.Time) error {
	before, after := w.canary.Status.Release, d.Status.Release
	if before == nil {
		return nil
	}
	err := r.chronicle(ctx, w, w.canary.Status, before.FinishedAt == nil, now)
	if err == nil || after != nil && after.Attempt == before.Attempt {
		return nil // a failure is told after this pass, which tries again
	}
	if r.tell(w, before.Attempt, err, now) >= recordPatience {
		return nil
	}
	return fmt.Errorf("recording the Release before the next one begins: %w", err)
}

// tell says once what keeps a Release from being written, and for how long it was so.
func (r *reconciler) tell(w *world, attempt int64, err error, now time.Time) time.Duration {
	if raced(err) {
		return 0
	}
	key := client.ObjectKeyFromObject(w.canary)
	said := unrecorded{since: now}
	if old, ok := r.unrecorded.Load(key); ok {
		said = old.(unrecorded)
	}
	note := shorten("Release "+record.Name(w.canary.Name, attempt)+", the record, cannot be written; what it records goes on: "+err.Error(), noteLimit)
	if note != said.note {
		said.note = note
		r.events.Eventf(w.canary, nil, corev1.EventTypeWarning, v1beta1.ReasonNotRecorded, "Record", "%s", note)
	}
	r.unrecorded.Store(key, said)
	return now.Sub(said.since)
}

// recorded writes what this pass came to, and gives when to make the next one. It comes last and
// is never an error: nothing that moves traffic waits for it.
func (r *reconciler) recorded(ctx context.Context, w *world, d rollout.Decision, now time.Time) (after time.Duration) {
	if d.Status.Release == nil {
		return d.After
	}
	retry := record.Interval
	old := w.canary.Status.Release
	fresh := d.Status.Release.FinishedAt == nil || old == nil || old.FinishedAt == nil
	err := r.chronicle(ctx, w, d.Status, fresh, now)
	switch {
	case err == nil:
		r.unrecorded.Delete(client.ObjectKeyFromObject(w.canary))
		return d.After
	case raced(err):
		retry = raceDelay
	default:
		r.tell(w, d.Status.Release.Attempt, err, now)
		ctrl.LoggerFrom(ctx).Error(err, "recording the Release")
	}
	if d.After > 0 {
		retry = min(retry, d.After)
	}
	return retry
}

// chronicle makes the record of a status's release tell what the status does. A record that is
// missing is made only while make says so: one that a person deleted stays deleted.
func (r *reconciler) chronicle(ctx context.Context, w *world, status v1beta1.CanaryStatus, create bool, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	c := *w.canary
	c.Status = status
	key := types.NamespacedName{Namespace: c.Namespace, Name: record.Name(c.Name, status.Release.Attempt)}
	rec := &v1beta1.Release{}
	switch err := r.client.Get(ctx, key, rec); {
	case apierrors.IsNotFound(err):
		if !create || c.DeletionTimestamp != nil {
			return nil
		}
		if rec, err = r.open(ctx, w, &c); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("reading Release %s: %w", key.Name, err)
	case !metav1.IsControlledBy(rec, &c):
		return r.replace(ctx, &c, rec)
	case record.Ended(rec.Status) && record.Told(rec.Status, &c):
		return nil // at rest: nothing was read but the cache
	case record.Ended(rec.Status):
		// The cache keeps only its end.
		if err := r.live.Get(ctx, key, rec); err != nil {
			return ignoreMissing(err)
		}
	}
	next := record.Next(rec.Status, &c)
	if !record.Due(rec.Status, next, now) && !record.Stale(rec.Status, next, now) {
		return nil
	}
	next = r.withEvidence(ctx, &c, next)
	if !record.Due(rec.Status, next, now) {
		return nil
	}
	if err := r.write(ctx, rec, next, now); err != nil {
		return err
	}
	if !record.Ended(next) {
		return nil
	}
	return r.prune(ctx, &c)
}

// write makes a status the record's, refusing to write over one it has not seen.
func (r *reconciler) write(ctx context.Context, rec *v1beta1.Release, next v1beta1.ReleaseStatus, now time.Time) error {
	at := metav1.NewMicroTime(now.Truncate(time.Microsecond))
	next.RecordedAt = &at
	after := rec.DeepCopy()
	after.Status = next
	patch := client.MergeFromWithOptions(rec, client.MergeFromWithOptimisticLock{})
	return ignoreMissing(r.client.Status().Patch(ctx, after, patch, client.FieldOwner(fieldManager)))
}

// open makes the record of a release, once those of the releases before it are closed.
func (r *reconciler) open(ctx context.Context, w *world, c *v1beta1.Canary) (*v1beta1.Release, error) {
	list, err := r.records(ctx, c)
	if err != nil {
		return nil, err
	}
	for i := range list {
		before := &list[i]
		if before.Spec.Attempt >= c.Status.Release.Attempt || record.Ended(before.Status) {
			continue
		}
		if err := r.write(ctx, before, record.Overtaken(before.Status, c.Status.Release.StartedAt), c.Status.Release.StartedAt.Time); err != nil {
			return nil, fmt.Errorf("closing Release %s: %w", before.Name, err)
		}
	}
	release := c.Status.Release
	rec := record.New(c, w.template(release.Revision, release.Attempt), w.template(release.Stable, release.Attempt))
	if err := r.client.Create(ctx, &rec, client.FieldOwner(fieldManager)); err != nil {
		return nil, fmt.Errorf("creating Release %s: %w", rec.Name, err)
	}
	return &rec, r.prune(ctx, c)
}

// replace removes the record of a Canary of the same name that is gone, so that this one's can
// take its place.
func (r *reconciler) replace(ctx context.Context, c *v1beta1.Canary, rec *v1beta1.Release) error {
	if rec.Labels[v1beta1.LabelManagedBy] != v1beta1.ManagedBy || rec.Labels[v1beta1.LabelHold] != c.Name {
		return foreignError(fmt.Sprintf("Release %q exists and is not Headgate's: delete it", rec.Name))
	}
	if err := ignoreMissing(r.client.Delete(ctx, rec, client.Preconditions{UID: &rec.UID})); err != nil {
		return fmt.Errorf("deleting the Release %s of a Canary that is gone: %w", rec.Name, err)
	}
	return errChanged // the next pass finds the name free
}

// prune deletes the oldest ended records beyond the Canary's limit.
func (r *reconciler) prune(ctx context.Context, c *v1beta1.Canary) error {
	list, err := r.records(ctx, c)
	if err != nil {
		return err
	}
	for _, name := range record.Surplus(list, c) {
		rec := &v1beta1.Release{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: name}}
		if err := ignoreMissing(r.client.Delete(ctx, rec)); err != nil {
			return fmt.Errorf("deleting Release %s beyond the history limit: %w", name, err)
		}
	}
	return nil
}

// records are the Canary's own, those that are being deleted left out.
func (r *reconciler) records(ctx context.Context, c *v1beta1.Canary) ([]v1beta1.Release, error) {
	list := &v1beta1.ReleaseList{}
	if err := r.client.List(ctx, list, client.InNamespace(c.Namespace), client.MatchingLabels{v1beta1.LabelHold: c.Name}); err != nil {
		return nil, fmt.Errorf("listing Releases: %w", err)
	}
	var own []v1beta1.Release
	for _, rec := range list.Items {
		if metav1.IsControlledBy(&rec, c) && rec.DeletionTimestamp == nil {
			own = append(own, rec)
		}
	}
	return own, nil
}

// template gives the pod template of a version of a release, or nil where it is not known any more.
func (w *world) template(revision string, attempt int64) *corev1.PodTemplateSpec {
	if rs := w.sets[revision]; rs != nil {
		return &rs.Spec.Template
	}
	if w.target != nil && rollout.Revision(w.seen.Target.Template, attempt) == revision {
		return &w.target.Spec.Template // its pods are still to be made
	}
	return nil
}

// withEvidence asks for the state of the analysis. What was recorded stays while the measurer
// has none.
func (r *reconciler) withEvidence(ctx context.Context, c *v1beta1.Canary, next v1beta1.ReleaseStatus) v1beta1.ReleaseStatus {
	key := client.ObjectKeyFromObject(c)
	if known, ok := r.resumed.Load(key); next.Outcome != "" || !ok || known != c.Status.Release.Attempt {
		return next // there is nothing to go on with, or what is known is of the release before
	}
	next, kept := record.WithEvidence(next, r.options.Measurer.Evidence(key))
	if !kept {
		ctrl.LoggerFrom(ctx).Info("the state of the analysis is too large to be kept: after a restart it begins anew", "limit", record.EvidenceLimit)
	}
	return next
}

// saved is the evidence that a process before this one recorded. It is read from the cache,
// once per release.
func (r *reconciler) saved(ctx context.Context, c *v1beta1.Canary) []byte {
	key, attempt := client.ObjectKeyFromObject(c), c.Status.Release.Attempt
	if known, ok := r.resumed.Load(key); ok && known == attempt {
		return nil
	}
	rec := &v1beta1.Release{}
	name := record.Name(c.Name, attempt)
	if err := r.client.Get(ctx, types.NamespacedName{Namespace: c.Namespace, Name: name}, rec); ignoreMissing(err) != nil {
		ctrl.LoggerFrom(ctx).Error(err, "reading the evidence of a release: it begins anew", "release", name)
	}
	r.resumed.Store(key, attempt)
	if rec.Status.Evidence == nil || !metav1.IsControlledBy(rec, c) {
		return nil
	}
	return rec.Status.Evidence.Raw
}
