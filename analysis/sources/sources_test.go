// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package sources_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/sources"
	"headgate.dev/headgate/api/v1beta1"
)

// world is a server that asks for a token, and the Secret with it.
type world struct {
	*sources.Sources
	client client.Client
	server *httptest.Server
	now    time.Time
	token  string
	reads  int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{now: time.Unix(1_790_000_000, 0), token: "one"}
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+w.token {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		rw.Header().Set("Date", w.now.UTC().Format(http.TimeFormat))
		_, _ = io.WriteString(rw, `{"n": 3, "verdict": "Fail", "status": "success", "data": {"resultType": "scalar", "result": [0, "4"]}}`)
	}))
	t.Cleanup(w.server.Close)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "token"}, Data: map[string][]byte{"token": []byte("one")}}
	w.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(secret).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, ok := o.(*corev1.Secret); ok {
				w.reads++
			}
			return c.Get(ctx, key, o, opts...)
		},
	}).Build()
	var err error
	w.Sources, err = sources.New(sources.Options{Client: w.client, Now: func() time.Time { return w.now }, Local: true})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) query(namespace string, m v1beta1.Metric) analysis.Query {
	m.Name = "m"
	return analysis.Query{Metric: m, Kind: analysis.KindOf(m), Subject: analysis.Subject{Namespace: namespace, Canary: "checkout", Weight: 5}, From: w.now.Add(-time.Minute), To: w.now, Asked: w.now}
}

func (w *world) connection() v1beta1.Connection {
	return v1beta1.Connection{BearerToken: &v1beta1.SecretKeyReference{Name: "token", Key: "token"}}
}

func (w *world) number() v1beta1.Metric {
	return v1beta1.Metric{HTTP: &v1beta1.HTTPSource{URL: w.server.URL, Value: "body.n", Connection: w.connection()}, Threshold: &v1beta1.Threshold{}}
}

func TestEachMetricIsAskedAtItsOwnSource(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		metric v1beta1.Metric
		kind   analysis.Kind
		value  float64
	}{
		"http":       {w.number(), analysis.KindScalar, 3},
		"webhook":    {v1beta1.Metric{Webhook: &v1beta1.WebhookSource{URL: w.server.URL, Connection: w.connection()}}, analysis.KindVerdict, 1},
		"prometheus": {v1beta1.Metric{Prometheus: &v1beta1.PrometheusSource{Query: "4", Address: w.server.URL, Connection: w.connection()}, Threshold: &v1beta1.Threshold{}}, analysis.KindScalar, 4},
	} {
		m := w.Ask(t.Context(), w.query("shop", c.metric))
		if m.Problem != nil || m.Canary.Value != c.value || m.Kind != c.kind || m.Metric != "m" || !m.Asked.Equal(w.now) {
			t.Errorf("%s: %+v, %+v", name, m, m.Problem)
		}
	}
	job := w.Ask(t.Context(), w.query("shop", v1beta1.Metric{Job: &v1beta1.JobSource{}}))
	if job.Problem == nil || !strings.Contains(job.Problem.Message, "the Canary cannot be read") {
		t.Errorf("job: %+v", job.Problem)
	}
	none := w.Ask(t.Context(), w.query("shop", v1beta1.Metric{}))
	if none.Problem == nil || none.Problem.Reason != v1beta1.ReasonInvalidSpec {
		t.Errorf("nothing to ask: %+v", none.Problem)
	}
}

func TestASecretIsReadByNameAndItsRotationIsSeen(t *testing.T) {
	w := newWorld(t)
	ask := func() *analysis.Problem { return w.Ask(t.Context(), w.query("shop", w.number())).Problem }
	for range 5 {
		if p := ask(); p != nil {
			t.Fatal(p.Message)
		}
	}
	if w.reads != 1 {
		t.Errorf("five questions within a moment read the Secret %d times", w.reads)
	}
	w.token = "two"
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "token"}, Data: map[string][]byte{"token": []byte("two")}}
	if err := w.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if p := ask(); p == nil || p.Reason != v1beta1.ReasonAccessDenied {
		t.Errorf("with the old token: %+v", p)
	}
	w.now = w.now.Add(10 * time.Second)
	if p := ask(); p != nil {
		t.Errorf("ten seconds later the new one is used: %+v", p)
	}
	if err := w.client.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(10 * time.Second)
	if p := ask(); p == nil || p.Reason != v1beta1.ReasonSecretNotFound {
		t.Errorf("without the Secret: %+v", p)
	}
}

func TestASecretOfAnotherNamespaceIsOutOfReach(t *testing.T) {
	w := newWorld(t)
	if p := w.Ask(t.Context(), w.query("other", w.number())).Problem; p == nil || p.Reason != v1beta1.ReasonSecretNotFound {
		t.Errorf("%+v", p)
	}
}

func TestAWrongAddressOfTheInstallationIsSaidAtOnce(t *testing.T) {
	if _, err := sources.New(sources.Options{PrometheusAddress: "prometheus"}); err == nil || !strings.Contains(err.Error(), "write http://") {
		t.Error(err)
	}
}
