// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

const (
	// deadline and keep are what a Job gets that does not say otherwise, in seconds: when it is stopped, and
	// for how long it stays to be looked at once it has ended.
	deadline = 10 * 60
	keep     = 60 * 60
)

// start creates a Job. The problem says that it runs, or why it does not.
func (s *Source) start(ctx context.Context, q analysis.Query, canary *v1beta1.Canary, number int) *analysis.Problem {
	spec, err := analysis.JobSpec(q.Metric.Job)
	if err != nil {
		return problem(v1beta1.ReasonInvalidSpec, "%v", err)
	}
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: q.Subject.Namespace, Name: nameOf(q, number),
			Labels: map[string]string{
				v1beta1.LabelManagedBy: v1beta1.ManagedBy, labelCanary: labelValue(q.Subject.Canary), labelMetric: labelValue(q.Metric.Name),
				labelRelease: release(q), labelStep: step(q), labelNumber: strconv.Itoa(number),
			},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(canary, v1beta1.GroupVersion.WithKind("Canary"))},
		},
		Spec: completed(spec, q),
	}
	err = s.client.Create(ctx, j, client.FieldOwner("headgate"))
	switch {
	case apierrors.IsAlreadyExists(err):
		return problem(v1beta1.ReasonJobRefused, "there is a Job %s already that is not of this Canary: delete it", j.Name)
	case err != nil:
		return refused(err, "created")
	}
	return problem(v1beta1.ReasonJobRunning, "Job %s was started", j.Name)
}

// nameOf is the same for the same measurement, so that it cannot be made twice.
func nameOf(q analysis.Query, number int) string {
	return limited(fmt.Sprintf("%s-%s-%s-%s-%d", strings.ReplaceAll(q.Subject.Canary, ".", "-"), q.Metric.Name, release(q), step(q), number))
}

// labelValue is a name as the value of a label.
func labelValue(name string) string { return limited(name) }

// limited replaces the middle of a name that is too long for a label by a digest.
func limited(name string) string {
	const limit = 63
	if len(name) <= limit {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	digest := hex.EncodeToString(sum[:5])
	return strings.TrimRight(name[:limit-len(digest)-1], "-.") + "-" + digest
}

// completed is the user's spec with what every Job of a measurement needs. A test that
// fails once has failed, and one whose node was drained has not.
func completed(spec batchv1.JobSpec, q analysis.Query) batchv1.JobSpec {
	if spec.ActiveDeadlineSeconds == nil {
		spec.ActiveDeadlineSeconds = ptr(int64(deadline))
	}
	if spec.TTLSecondsAfterFinished == nil {
		spec.TTLSecondsAfterFinished = ptr(int32(keep))
	}
	if spec.BackoffLimit == nil && spec.BackoffLimitPerIndex == nil {
		spec.BackoffLimit = ptr(int32(0))
	}
	pod := &spec.Template.Spec
	if pod.RestartPolicy == "" {
		pod.RestartPolicy = corev1.RestartPolicyNever
	}
	if spec.PodFailurePolicy == nil && pod.RestartPolicy == corev1.RestartPolicyNever {
		spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
			Action:          batchv1.PodFailurePolicyActionIgnore,
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
		}}}
	}
	for i := range pod.InitContainers {
		pod.InitContainers[i].Env = withSubject(pod.InitContainers[i].Env, q)
	}
	for i := range pod.Containers {
		pod.Containers[i].Env = withSubject(pod.Containers[i].Env, q)
	}
	return spec
}

// withSubject says in the environment what is measured. The user's own variables come
// after, so that they may refer to these and replace them.
func withSubject(own []corev1.EnvVar, q analysis.Query) []corev1.EnvVar {
	env := []corev1.EnvVar{
		{Name: "HEADGATE_CANARY", Value: q.Subject.Canary},
		{Name: "HEADGATE_NAMESPACE", Value: q.Subject.Namespace},
		{Name: "HEADGATE_RELEASE", Value: release(q)},
		{Name: "HEADGATE_SERVICE", Value: q.Subject.CanaryVersion.Service},
		{Name: "HEADGATE_STEP", Value: step(q)},
		{Name: "HEADGATE_VERSION", Value: q.Subject.CanaryVersion.Revision},
		{Name: "HEADGATE_WEIGHT", Value: strconv.Itoa(int(q.Subject.Weight))},
	}
	named := map[string]bool{}
	for _, e := range own {
		named[e.Name] = true
	}
	var all []corev1.EnvVar
	for _, e := range env {
		if !named[e.Name] {
			all = append(all, e)
		}
	}
	return append(all, own...)
}

func ptr[T any](v T) *T { return &v }
