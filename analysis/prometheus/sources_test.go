// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package prometheus_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/prometheus"
	"headgate.dev/headgate/api/v1beta1"
)

// shopApp is one pod of an app: a counter by code, a classic and a native histogram.
type shopApp struct {
	requests *client.CounterVec
	classic  *client.HistogramVec
	native   *client.HistogramVec
	handler  http.Handler
}

func newShopApp(pod string, native client.HistogramOpts) *shopApp {
	labels := client.Labels{"pod": pod}
	native.Name, native.ConstLabels = "native_seconds", labels
	a := &shopApp{
		requests: client.NewCounterVec(client.CounterOpts{Name: "requests_total", ConstLabels: labels}, []string{"code"}),
		classic:  client.NewHistogramVec(client.HistogramOpts{Name: "classic_seconds", ConstLabels: labels, Buckets: []float64{0.1, 0.25, 1}}, nil),
		native:   client.NewHistogramVec(native, nil),
	}
	r := client.NewRegistry()
	r.MustRegister(a.requests, a.classic, a.native)
	a.requests.WithLabelValues("200").Add(0)
	a.classic.WithLabelValues()
	a.native.WithLabelValues()
	a.handler = promhttp.HandlerFor(r, promhttp.HandlerOpts{})
	return a
}

func (a *shopApp) serve(code string, seconds float64, times int) {
	for range times {
		a.requests.WithLabelValues(code).Inc()
		a.classic.WithLabelValues().Observe(seconds)
		a.native.WithLabelValues().Observe(seconds)
	}
}

// pods serves each app under an address of its own; they can be replaced, as by a restart.
func pods(t *testing.T, apps ...*atomic.Pointer[shopApp]) (targets []string) {
	t.Helper()
	for _, a := range apps {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.Load().handler.ServeHTTP(w, r) }))
		t.Cleanup(server.Close)
		targets = append(targets, strings.TrimPrefix(server.URL, "http://"))
	}
	return targets
}

func holder(a *shopApp) *atomic.Pointer[shopApp] {
	p := &atomic.Pointer[shopApp]{}
	p.Store(a)
	return p
}

func TestCountersAndHistogramsOfARealPrometheus(t *testing.T) {
	fine, coarse := client.HistogramOpts{NativeHistogramBucketFactor: 1.05}, client.HistogramOpts{NativeHistogramBucketFactor: 1.3}
	stable := holder(newShopApp("checkout-1", coarse))
	canary := [2]*atomic.Pointer[shopApp]{holder(newShopApp("checkout-canary-1", fine)), holder(newShopApp("checkout-canary-2", fine))}
	address := realPrometheus(t, "/metrics", pods(t, stable, canary[0], canary[1])...)
	// A sample carries the time at which its scrape began: one that is under way must not see what comes after.
	scraped := func() time.Time {
		time.Sleep(2500 * time.Millisecond)
		at := time.Now().Truncate(time.Millisecond)
		time.Sleep(1100 * time.Millisecond)
		return at
	}
	query := func(kind analysis.Kind, p v1beta1.PrometheusSource, from, to time.Time) analysis.Measurement {
		subject := shop
		subject.Since = from
		m := askReal(t, address, analysis.Query{
			Kind: kind, Subject: subject, From: from, To: to,
			Metric: v1beta1.Metric{Name: "m", Prometheus: &p, Tolerance: &v1beta1.Tolerance{Relative: "20%"}},
		})
		if m.Problem != nil {
			t.Fatal(*m.Problem)
		}
		return m
	}
	counters := v1beta1.PrometheusSource{Counters: &v1beta1.Counters{
		Bad: `requests_total{pod=~"{{.Pods}}",code=~"5.."}`, Total: `requests_total{pod=~"{{.Pods}}"}`,
	}}

	start := scraped()
	stable.Load().serve("200", 0.05, 40)
	canary[0].Load().serve("200", 0.05, 20)
	canary[1].Load().serve("200", 0.2, 10)
	middle := scraped()
	stable.Load().serve("500", 0.05, 2)
	canary[0].Load().serve("503", 0.2, 3) // the first bad ones: a new series
	canary[1].Store(newShopApp("checkout-canary-2", fine))
	canary[1].Load().serve("200", 0.5, 4) // after a restart
	end := scraped()

	for _, c := range []struct {
		what               string
		from, to           time.Time
		stableAll, stableB float64
		canaryAll, canaryB float64
	}{
		{"first half", start, middle, 40, 0, 30, 0},
		{"second half", middle, end, 2, 2, 7, 3},
		{"whole", start, end, 42, 2, 37, 3},
	} {
		m := query(analysis.KindCounts, counters, c.from, c.to)
		if m.Stable.Requests != c.stableAll || m.Stable.Bad != c.stableB || m.Canary.Requests != c.canaryAll || m.Canary.Bad != c.canaryB {
			t.Errorf("%s: stable %+v, canary %+v; want %+v", c.what, m.Stable, m.Canary, c)
		}
	}
	classic := query(analysis.KindHistogram, v1beta1.PrometheusSource{Histogram: `classic_seconds_bucket{pod=~"{{.Pods}}"}`}, start, end)
	if got := fmt.Sprint(classic.Stable.Buckets, classic.Canary.Buckets); got != "[{0.1 42} {0.25 42} {1 42} {+Inf 42}] [{0.1 20} {0.25 33} {1 37} {+Inf 37}]" {
		t.Errorf("classic: %s", got)
	}
	native := query(analysis.KindHistogram, v1beta1.PrometheusSource{Histogram: `native_seconds{pod=~"{{.Pods}}"}`}, start, end)
	if len(native.Stable.Buckets) != len(native.Canary.Buckets) || len(native.Canary.Buckets) < 40 {
		t.Errorf("native: %d bounds of stable, %d of the canary", len(native.Stable.Buckets), len(native.Canary.Buckets))
	}
	for i, b := range native.Canary.Buckets {
		if s := native.Stable.Buckets[i]; s.Le != b.Le {
			t.Fatalf("bounds differ: %v and %v", s.Le, b.Le)
		}
		want := 0.0
		for seconds, n := range map[float64]float64{0.05: 20, 0.2: 13, 0.5: 4} {
			if seconds <= b.Le {
				want += n
			}
		}
		if b.Count != want {
			t.Errorf("native: %v requests took at most %v, want %v", b.Count, b.Le, want)
		}
	}
	if last := native.Canary.Buckets[len(native.Canary.Buckets)-1]; !math.IsInf(last.Le, 1) || native.Canary.Requests != 37 || native.Stable.Requests != 42 {
		t.Errorf("native: %+v of %v and %v", last, native.Canary.Requests, native.Stable.Requests)
	}

	t.Run("behind TLS, a client certificate, a password and a tenant", func(t *testing.T) { guarded(t, address) })
	t.Run("a query that takes too long", func(t *testing.T) {
		target, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		// How long a query takes depends on the machine; how long its answer is on the way does not.
		slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			httputil.NewSingleHostReverseProxy(target).ServeHTTP(w, r)
		}))
		t.Cleanup(slow.Close)
		q := userQuery(`vector(1)`)
		q.Metric.Prometheus.Timeout = &metav1.Duration{Duration: 100 * time.Millisecond}
		check(t, askReal(t, slow.URL, q), v1beta1.ReasonQueryTimedOut, "")
	})
	t.Run("nobody scrapes the pods", func(t *testing.T) {
		subject := shop
		subject.CanaryVersion.PodPattern = "elsewhere-.*"
		subject.Since = start
		q := analysis.Query{Kind: analysis.KindCounts, Subject: subject, From: start, To: end, Metric: v1beta1.Metric{Name: "m", Prometheus: &counters}}
		check(t, askReal(t, address, q), v1beta1.ReasonNoSeries, "canary has no series of requests_total{pod=~\"elsewhere-.*\"}")
	})
}

// guarded puts what guards a Prometheus in front of one: TLS with client certificates, a
// password, and tenants by header.
func guarded(t *testing.T, address string) {
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, authorities := selfSigned(t)
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch name, password, ok := r.BasicAuth(); {
		case !ok || name != "headgate" || password != "hush":
			w.WriteHeader(http.StatusUnauthorized)
		case r.Header.Get("X-Scope-OrgID") != "shop":
			w.WriteHeader(http.StatusForbidden)
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	front.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities, MinVersion: tls.VersionTLS12}
	front.StartTLS()
	defer front.Close()
	secrets := map[string]map[string][]byte{
		"tls":  {"ca.crt": certificate, "tls.crt": certificate, "tls.key": key},
		"user": {"username": []byte("headgate"), "password": []byte("hush\n")},
	}
	s, err := prometheus.New(prometheus.Options{Connections: local(secrets)})
	if err != nil {
		t.Fatal(err)
	}
	q := userQuery("count(requests_total)")
	p := q.Metric.Prometheus
	p.Address = front.URL
	p.TLS = &v1beta1.ClientTLS{CA: &v1beta1.SecretKeyReference{Name: "tls", Key: "ca.crt"}}
	check(t, s.Ask(t.Context(), q), v1beta1.ReasonAccessDenied, "name one with tls.clientCertificate")
	p.TLS.ClientCertificate = &v1beta1.SecretReference{Name: "tls"}
	check(t, s.Ask(t.Context(), q), v1beta1.ReasonAccessDenied, "asks for credentials (HTTP 401)")
	p.BasicAuth = &v1beta1.SecretReference{Name: "nobody"}
	check(t, s.Ask(t.Context(), q), v1beta1.ReasonSecretNotFound, `there is no Secret "nobody" in namespace shop`)
	p.BasicAuth.Name = "user"
	check(t, s.Ask(t.Context(), q), v1beta1.ReasonAccessDenied, "forbids the query (HTTP 403)")
	p.Headers = []v1beta1.Header{{Name: "X-Scope-OrgID", Value: "shop"}}
	if m := s.Ask(t.Context(), q); m.Problem != nil || m.Canary.Value < 5 {
		t.Errorf("%+v, %+v", m, m.Problem)
	}
}

// selfSigned is a certificate of 127.0.0.1 that is its own authority.
func selfSigned(t *testing.T) (certificate, key []byte, authorities *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	authorities = x509.NewCertPool()
	authorities.AppendCertsFromPEM(certificate)
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}), authorities
}
