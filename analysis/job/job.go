// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package job answers the queries of an analysis by running a Kubernetes Job: one that completes
// is a pass, one that fails is a fail.
//
// Asking never waits for a Job to end. The first question creates it, and until it has ended
// every answer is the problem JobRunning, after which the question is asked again. What was created is
// found by its labels, so a Job is not run twice when Headgate restarts, and its verdict is stored with its UID, so
// it is not counted twice either.
package job

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/connection"
	"headgate.dev/headgate/api/v1beta1"
)

// The labels of a Job, beside the one that says that it is Headgate's.
const (
	labelCanary  = v1beta1.LabelHold
	labelMetric  = "headgate.dev/metric"
	labelRelease = "headgate.dev/release"
	labelStep    = "headgate.dev/step"
	labelNumber  = "headgate.dev/measurement"
)

// Source runs Jobs. Its methods may be called from several goroutines.
type Source struct {
	client client.Client

	mu sync.Mutex
	// told is the last Job that was reported, by Canary and metric: the next question is
	// about a new one. After a restart the query says which one was counted.
	told map[string]types.UID
}

// New makes a Source. The client reads and writes without a cache: Jobs are looked at only
// while one is wanted.
func New(c client.Client) *Source { return &Source{client: c, told: map[string]types.UID{}} }

// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=list;create;delete

// Ask gives the verdict of the Job that is under way, and starts one where none is.
// What goes wrong is in the answer's Problem, which is a sentence for the user.
func (s *Source) Ask(ctx context.Context, q analysis.Query) analysis.Measurement {
	m := analysis.Measurement{Metric: q.Metric.Name, Kind: q.Kind, From: q.From, To: q.To, Asked: q.Asked}
	canary := &v1beta1.Canary{}
	if err := s.client.Get(ctx, types.NamespacedName{Namespace: q.Subject.Namespace, Name: q.Subject.Canary}, canary); err != nil {
		m.Problem = problem(v1beta1.ReasonSourceUnavailable, "the Canary cannot be read to own the Job: %s", connection.Short(err.Error()))
		return m
	}
	jobs, err := s.list(ctx, q, canary)
	if err != nil {
		m.Problem = refused(err, "listed")
		return m
	}
	number := 1
	if len(jobs) > 0 {
		newest := &jobs[len(jobs)-1]
		if newest.DeletionTimestamp == nil && s.fresh(q, newest.UID) {
			verdict, says, running := result(newest, q.Asked)
			if running == nil {
				s.remember(q, newest.UID)
			}
			m.ID = string(newest.UID)
			m.Canary, m.Says, m.Problem = analysis.Sample{Value: verdict, Present: running == nil}, says, running
			if m.Problem == nil || m.Problem.Reason == v1beta1.ReasonJobRunning {
				return m
			}
			// It ran out of time, which says nothing: the next question starts another one.
			s.remember(q, newest.UID)
			return m
		}
		number = numberOf(newest) + 1
	}
	m.Problem = s.start(ctx, q, canary, number)
	return m
}

func key(q analysis.Query) string {
	return q.Subject.Namespace + "/" + q.Subject.Canary + "/" + q.Metric.Name
}

// fresh says whether a Job was not reported yet: by this process, or by one before it that also stored what it
// counted for.
func (s *Source) fresh(q analysis.Query, job types.UID) bool {
	if q.Counted == string(job) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told[key(q)] != job
}

func (s *Source) remember(q analysis.Query, job types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told[key(q)] = job
}

// list gives the Jobs of the present step, in the order they were made, and stops those of
// earlier steps that still run: nobody waits for them.
func (s *Source) list(ctx context.Context, q analysis.Query, canary *v1beta1.Canary) ([]batchv1.Job, error) {
	all := &batchv1.JobList{}
	if err := s.client.List(ctx, all, client.InNamespace(q.Subject.Namespace), client.MatchingLabels{
		v1beta1.LabelManagedBy: v1beta1.ManagedBy, labelMetric: labelValue(q.Metric.Name), labelCanary: labelValue(q.Subject.Canary),
	}); err != nil {
		return nil, err
	}
	var ours []batchv1.Job
	for i := range all.Items {
		j := &all.Items[i]
		switch {
		case !metav1.IsControlledBy(j, canary):
		case j.Labels[labelRelease] == release(q) && j.Labels[labelStep] == step(q):
			ours = append(ours, *j)
		case !ended(j) && j.DeletionTimestamp == nil:
			if err := client.IgnoreNotFound(s.client.Delete(ctx, j, client.PropagationPolicy(metav1.DeletePropagationBackground))); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(ours, func(a, b batchv1.Job) int { return cmp.Compare(numberOf(&a), numberOf(&b)) })
	return ours, nil
}

func release(q analysis.Query) string { return strconv.FormatInt(q.Subject.Attempt, 10) }

func step(q analysis.Query) string { return strconv.FormatInt(int64(q.Subject.Step), 10) }

func numberOf(j *batchv1.Job) int {
	n, err := strconv.Atoi(j.Labels[labelNumber])
	if err != nil {
		return 0
	}
	return n
}

func condition(j *batchv1.Job, kind batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range j.Status.Conditions {
		if c := &j.Status.Conditions[i]; c.Type == kind && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

func ended(j *batchv1.Job) bool {
	return condition(j, batchv1.JobComplete) != nil || condition(j, batchv1.JobFailed) != nil
}

// result is the verdict of a Job: 0 for a pass, 1 for a fail. A Job that ran out of time
// may as well never have had a node or an image, so it is neither.
func result(j *batchv1.Job, now time.Time) (verdict float64, says string, running *analysis.Problem) {
	if condition(j, batchv1.JobComplete) != nil {
		return 0, fmt.Sprintf("Job %s completed", j.Name), nil
	}
	failed := condition(j, batchv1.JobFailed)
	switch {
	case failed == nil:
		pods := "no pod of it runs yet"
		if ready := j.Status.Ready; ready != nil && *ready > 0 {
			pods = fmt.Sprintf("%d of its pods run", *ready)
		}
		waited := max(now.Sub(j.CreationTimestamp.Time), 0).Truncate(10 * time.Second)
		return 0, "", problem(v1beta1.ReasonJobRunning, "Job %s has not ended after %s: %s", j.Name, waited, pods)
	case failed.Reason == batchv1.JobReasonDeadlineExceeded:
		return 0, "", problem(v1beta1.ReasonQueryTimedOut,
			"Job %s did not end within its activeDeadlineSeconds, which says nothing of the canary: see its pods' events, or give it more time", j.Name)
	default:
		return 1, connection.Short(fmt.Sprintf("Job %s failed (%s): %s", j.Name, failed.Reason, failed.Message)), nil
	}
}

func problem(reason, format string, args ...any) *analysis.Problem {
	return &analysis.Problem{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// refused is for requests that the API server did not carry out.
func refused(err error, what string) *analysis.Problem {
	switch {
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return problem(v1beta1.ReasonJobRefused, "the Job cannot be %s: %s", what, connection.Short(err.Error()))
	default:
		return problem(v1beta1.ReasonSourceUnavailable, "the Job cannot be %s for now: %s", what, connection.Short(err.Error()))
	}
}
