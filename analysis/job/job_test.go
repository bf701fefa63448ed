// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package job_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/job"
	"headgate.dev/headgate/api/v1beta1"
)

const spec = `{"template": {"spec": {"containers": [{"name": "test", "image": "test", "env": [{"name": "HEADGATE_STEP", "value": "mine"}]}]}}}`

// world is an API server with a namespace, and nothing that runs pods.
type world struct {
	*testing.T
	client.Client
	source *job.Source
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("KUBEBUILDER_ASSETS does not name the folder of kube-apiserver and etcd")
	}
	server := &envtest.Environment{CRDDirectoryPaths: []string{"../../charts/headgate/files/crds"}, ErrorIfCRDPathMissing: true}
	config, err := server.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return &world{T: t, Client: c, source: job.New(c)}
}

// shop makes a namespace with a Canary.
func (w *world) shop(namespace string) {
	w.Helper()
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}},
		&v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "checkout"}, Spec: v1beta1.CanarySpec{Target: v1beta1.TargetReference{Name: "checkout"}}},
	} {
		if err := w.Create(w.Context(), o); err != nil {
			w.Fatal(err)
		}
	}
}

func query(namespace string, attempt int64, step int32, spec string) analysis.Query {
	return analysis.Query{
		Kind: analysis.KindVerdict, Asked: time.Now(),
		Metric: v1beta1.Metric{Name: "load", Job: &v1beta1.JobSource{Spec: runtime.RawExtension{Raw: []byte(spec)}}},
		Subject: analysis.Subject{
			Namespace: namespace, Canary: "checkout", Attempt: attempt, Step: step, Weight: 25,
			CanaryVersion: analysis.Version{Service: "checkout-canary", Revision: "bbb"},
		},
	}
}

func (w *world) jobs(namespace string) []batchv1.Job {
	w.Helper()
	list := &batchv1.JobList{}
	if err := w.List(w.Context(), list, client.InNamespace(namespace)); err != nil {
		w.Fatal(err)
	}
	return list.Items
}

// end does what the controller of Jobs does.
func (w *world) end(j *batchv1.Job, kind batchv1.JobConditionType, reason, message string) {
	w.Helper()
	now := metav1.Now()
	before := batchv1.JobFailureTarget
	if j.Status.StartTime = &now; kind == batchv1.JobComplete {
		before, j.Status.CompletionTime, j.Status.Succeeded = batchv1.JobSuccessCriteriaMet, &now, 1
	}
	for _, k := range []batchv1.JobConditionType{before, kind} {
		j.Status.Conditions = append(j.Status.Conditions, batchv1.JobCondition{
			Type: k, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: now, LastProbeTime: now,
		})
	}
	if err := w.Client.Status().Update(w.Context(), j); err != nil {
		w.Fatal(err)
	}
}

func (w *world) problem(m analysis.Measurement, reason, message string) {
	w.Helper()
	if m.Problem == nil || m.Problem.Reason != reason || !strings.Contains(m.Problem.Message, message) || m.Canary.Present {
		w.Errorf("got %+v, want %s: %s", m.Problem, reason, message)
	}
}

func TestAJobIsRunOnceAndJudges(t *testing.T) {
	w := newWorld(t)
	t.Run("from its start to its end", w.passes)
	t.Run("and again at another time, step and release", w.again)
	t.Run("what says nothing of the canary is no fail", w.unknown)
}

func (w *world) passes(t *testing.T) {
	w = &world{t, w.Client, w.source}
	w.shop("pass")
	q := query("pass", 1, 2, spec)
	w.problem(w.source.Ask(t.Context(), q), v1beta1.ReasonJobRunning, "Job checkout-load-1-2-1 was started")
	w.problem(w.source.Ask(t.Context(), q), v1beta1.ReasonJobRunning, "Job checkout-load-1-2-1 has not ended after 0s: no pod of it runs yet")
	// A restart of Headgate knows nothing, and finds it.
	w.source = job.New(w.Client)
	w.problem(w.source.Ask(t.Context(), q), v1beta1.ReasonJobRunning, "has not ended")
	jobs := w.jobs("pass")
	if len(jobs) != 1 {
		t.Fatalf("there are %d Jobs", len(jobs))
	}
	j := &jobs[0]
	owner := metav1.GetControllerOf(j)
	if owner == nil || owner.Kind != "Canary" || owner.Name != "checkout" {
		t.Errorf("the Job's owner is %+v", owner)
	}
	if *j.Spec.ActiveDeadlineSeconds != 600 || *j.Spec.TTLSecondsAfterFinished != 3600 || *j.Spec.BackoffLimit != 0 ||
		j.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyNever || len(j.Spec.PodFailurePolicy.Rules) != 1 {
		t.Errorf("%+v", j.Spec)
	}
	env := map[string]string{}
	for _, e := range j.Spec.Template.Spec.Containers[0].Env {
		env[e.Name] = e.Value
	}
	want := map[string]string{
		"HEADGATE_CANARY": "checkout", "HEADGATE_NAMESPACE": "pass", "HEADGATE_VERSION": "bbb", "HEADGATE_RELEASE": "1",
		"HEADGATE_STEP": "mine", "HEADGATE_WEIGHT": "25", "HEADGATE_SERVICE": "checkout-canary",
	}
	if diff := cmp.Diff(want, env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	w.end(j, batchv1.JobComplete, "CompletionsReached", "")
	if m := w.source.Ask(t.Context(), q); m.Problem != nil || m.Canary.Value != 0 || !m.Canary.Present || m.Says != "Job checkout-load-1-2-1 completed" || m.ID != string(j.UID) {
		t.Errorf("%+v, %+v", m, m.Problem)
	}
	// A restart before that was stored: nothing was counted yet, and the Job is.
	w.source = job.New(w.Client)
	if m := w.source.Ask(t.Context(), q); m.Problem != nil || m.ID != string(j.UID) {
		t.Errorf("%+v, %+v", m, m.Problem)
	}
	// And one after it: the Job counts no second time.
	w.source = job.New(w.Client)
	q.Counted = string(j.UID)
	w.problem(w.source.Ask(t.Context(), q), v1beta1.ReasonJobRunning, "Job checkout-load-1-2-2 was started")
}

func (w *world) again(t *testing.T) {
	w = &world{t, w.Client, w.source}
	w.shop("again")
	q := query("again", 1, 1, spec)
	w.source.Ask(t.Context(), q)
	w.end(&w.jobs("again")[0], batchv1.JobFailed, batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	if m := w.source.Ask(t.Context(), q); m.Problem != nil || m.Canary.Value != 1 ||
		m.Says != "Job checkout-load-1-1-1 failed (BackoffLimitExceeded): Job has reached the specified backoff limit" {
		t.Errorf("%+v, %+v", m, m.Problem)
	}
	w.problem(w.source.Ask(t.Context(), q), v1beta1.ReasonJobRunning, "Job checkout-load-1-1-2 was started")
	// The release goes on: nobody waits for the Job that still runs.
	w.problem(w.source.Ask(t.Context(), query("again", 1, 2, spec)), v1beta1.ReasonJobRunning, "Job checkout-load-1-2-1 was started")
	var names []string
	for _, j := range w.jobs("again") {
		if j.DeletionTimestamp == nil {
			names = append(names, j.Name)
		}
	}
	if diff := cmp.Diff([]string{"checkout-load-1-1-1", "checkout-load-1-2-1"}, names); diff != "" {
		t.Errorf("Jobs (-want +got):\n%s", diff)
	}
	w.problem(w.source.Ask(t.Context(), query("again", 2, 1, spec)), v1beta1.ReasonJobRunning, "Job checkout-load-2-1-1 was started")
}

func (w *world) unknown(t *testing.T) {
	w = &world{t, w.Client, w.source}
	w.shop("unknown")
	q := query("unknown", 1, 1, spec)
	w.source.Ask(t.Context(), q)
	w.end(&w.jobs("unknown")[0], batchv1.JobFailed, batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
	w.problem(w.source.Ask(t.Context(), q), v1beta1.ReasonQueryTimedOut, "Job checkout-load-1-1-1 did not end within its activeDeadlineSeconds")
	w.problem(w.source.Ask(t.Context(), q), v1beta1.ReasonJobRunning, "Job checkout-load-1-1-2 was started")

	w.problem(w.source.Ask(t.Context(), query("unknown", 2, 1, `{"template": {"spec": {"containers": [{"name": "Test"}]}}}`)), v1beta1.ReasonJobRefused, "cannot be created")
	w.problem(w.source.Ask(t.Context(), query("unknown", 3, 1, `{"x": 1}`)), v1beta1.ReasonInvalidSpec, "is not the spec of a batch/v1 Job")
	w.problem(w.source.Ask(t.Context(), query("elsewhere", 1, 1, spec)), v1beta1.ReasonSourceUnavailable, "the Canary cannot be read")

	foreign := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "unknown", Name: "checkout-load-4-1-1"}, Spec: batchv1.JobSpec{
		Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "c"}}}},
	}}
	if err := w.Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	w.problem(w.source.Ask(t.Context(), query("unknown", 4, 1, spec)), v1beta1.ReasonJobRefused, "that is not of this Canary: delete it")

	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: "unknown", Name: "no-jobs"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/jobs.batch": resource.MustParse("0")}},
	}
	if err := w.Create(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	quota.Status.Hard, quota.Status.Used = quota.Spec.Hard, corev1.ResourceList{"count/jobs.batch": resource.MustParse("0")}
	if err := w.Client.Status().Update(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	var last analysis.Measurement
	for range 50 { // the quota takes effect a moment later
		if last = w.source.Ask(t.Context(), query("unknown", 5, 1, spec)); last.Problem != nil && last.Problem.Reason == v1beta1.ReasonJobRefused {
			break
		}
		for _, j := range w.jobs("unknown") {
			if j.Labels["headgate.dev/release"] == "5" {
				if err := w.Delete(t.Context(), &j, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.problem(last, v1beta1.ReasonJobRefused, "exceeded quota")
}
