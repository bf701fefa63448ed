// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package connection_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/connection"
	"headgate.dev/headgate/api/v1beta1"
)

type secrets map[string]map[string][]byte

func (s secrets) read(_ context.Context, namespace, name string) (map[string][]byte, error) {
	resource := schema.GroupResource{Resource: "secrets"}
	switch data, ok := s[name]; {
	case name == "forbidden":
		return nil, apierrors.NewForbidden(resource, name, nil)
	case name == "slow":
		return nil, context.DeadlineExceeded
	case !ok || namespace != "shop":
		return nil, apierrors.NewNotFound(resource, name)
	default:
		return data, nil
	}
}

// get asks an address once, as a metric of namespace shop would.
func get(t *testing.T, o connection.Options, c v1beta1.Connection, use connection.Use, address string) (string, *analysis.Problem) {
	t.Helper()
	client, problem := connection.New(o).Client(t.Context(), "shop", c, use)
	if problem != nil {
		return "", problem
	}
	ctx, cancel := context.WithTimeout(t.Context(), connection.Timeout(c))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err == nil {
		defer resp.Body.Close()
		var body []byte
		if body, err = io.ReadAll(resp.Body); err == nil {
			return string(body), nil
		}
	}
	if connection.IsTooLarge(err) {
		return "", &analysis.Problem{Message: "too large"}
	}
	return "", connection.Explain(err, connection.Failure{Address: address, Timeout: connection.Timeout(c), Expired: ctx.Err()})
}

func refused(t *testing.T, problem *analysis.Problem, reason, message string) {
	t.Helper()
	switch {
	case problem == nil:
		t.Fatalf("no problem, want %s: %s", reason, message)
	case problem.Reason != reason || !strings.Contains(problem.Message, message):
		t.Errorf("got %s: %s\nwant %s: %s", problem.Reason, problem.Message, reason, message)
	case strings.Contains(problem.Message, "hush"):
		t.Errorf("a secret is in the message: %s", problem.Message)
	}
}

func TestRequestsCarryWhatTheMetricSays(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, _ := r.BasicAuth()
		fmt.Fprintf(w, "%s|%s|%s|%s|%s|%s", r.Header.Get("X-Scope-OrgID"), r.Header.Get("X-Key"), r.Header.Get("Authorization"), name, password, r.UserAgent())
	}))
	defer server.Close()
	s := secrets{
		"user":  {"username": []byte("me"), "password": []byte("hush\n")},
		"token": {"token": []byte("hush.token\n"), "key": []byte("k1")},
	}
	tests := []struct {
		name string
		c    v1beta1.Connection
		want string
	}{
		{"nothing", v1beta1.Connection{}, "|||||headgate"},
		{
			"headers", v1beta1.Connection{Headers: []v1beta1.Header{
				{Name: "X-Scope-OrgID", Value: "team-a"}, {Name: "x-key", ValueFrom: &v1beta1.SecretKeyReference{Name: "token", Key: "key"}},
			}}, "team-a|k1||||headgate",
		},
		{"a name and a password", v1beta1.Connection{BasicAuth: &v1beta1.SecretReference{Name: "user"}}, "||Basic bWU6aHVzaA==|me|hush|headgate"},
		{"a token", v1beta1.Connection{BearerToken: &v1beta1.SecretKeyReference{Name: "token", Key: "token"}}, "||Bearer hush.token|||headgate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, problem := get(t, connection.Options{Local: true, Secrets: s.read}, tt.c, connection.Use{Limit: 1000}, server.URL)
			if problem != nil || got != tt.want {
				t.Errorf("got %s, %+v; want %s", got, problem, tt.want)
			}
		})
	}
}

func TestASecretThatCannotBeUsedHasItsSentence(t *testing.T) {
	s := secrets{"user": {"username": []byte("me")}, "odd": {"token": []byte("a\nb-hush"), "ca": []byte("hush")}, "pair": {"tls.crt": []byte("hush"), "tls.key": []byte("hush")}}
	token := func(name, key string) v1beta1.Connection {
		return v1beta1.Connection{BearerToken: &v1beta1.SecretKeyReference{Name: name, Key: key}}
	}
	tests := []struct {
		name            string
		c               v1beta1.Connection
		reason, message string
	}{
		{"no Secret", token("none", "x"), v1beta1.ReasonSecretNotFound, `there is no Secret "none" in namespace shop`},
		{"no key", token("odd", "x"), v1beta1.ReasonSecretNotFound, `Secret "odd" has no key "x"`},
		{"no password", v1beta1.Connection{BasicAuth: &v1beta1.SecretReference{Name: "user"}}, v1beta1.ReasonSecretNotFound, `Secret "user" has no key "password"`},
		{"two lines", token("odd", "token"), v1beta1.ReasonSecretNotFound, "write it in one line"},
		{"no permission", token("forbidden", "x"), v1beta1.ReasonNotAllowed, "grant its service account get on secrets in namespace shop"},
		{"no API server", token("slow", "x"), v1beta1.ReasonSourceUnavailable, `Secret "slow" cannot be read`},
		{"no certificate", v1beta1.Connection{TLS: &v1beta1.ClientTLS{CA: &v1beta1.SecretKeyReference{Name: "odd", Key: "ca"}}}, v1beta1.ReasonSecretNotFound, "has no certificate in PEM"},
		{"no key pair", v1beta1.Connection{TLS: &v1beta1.ClientTLS{ClientCertificate: &v1beta1.SecretReference{Name: "pair"}}}, v1beta1.ReasonSecretNotFound, "must be PEM and belong together"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, problem := get(t, connection.Options{Local: true, Secrets: s.read}, tt.c, connection.Use{Limit: 1000}, "http://127.0.0.1:1")
			refused(t, problem, tt.reason, tt.message)
		})
	}
}

// authority issues certificates; the second value is its own in PEM.
func authority(t *testing.T) (issue func(name string, addresses ...net.IP) (certificate, key []byte), ca []byte) {
	t.Helper()
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	serial := int64(0)
	sign := func(template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) []byte {
		serial++
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(serial), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	rootKey := newKey()
	root := &x509.Certificate{Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sign(root, root, rootKey, rootKey)})
	return func(name string, addresses ...net.IP) ([]byte, []byte) {
		k := newKey()
		leaf := &x509.Certificate{
			Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: addresses,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		der := sign(leaf, root, k, rootKey)
		private, err := x509.MarshalECPrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})
	}, ca
}

func TestBothEndsOfATLSConnectionAreChecked(t *testing.T) {
	issue, ca := authority(t)
	certificate, key := issue("prometheus.example")
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(ca)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	defer server.Close()
	clientCertificate, clientKey := issue("headgate")
	s := secrets{"ca": {"ca.crt": ca}, "client": {"tls.crt": clientCertificate, "tls.key": clientKey}}
	trust := &v1beta1.SecretKeyReference{Name: "ca", Key: "ca.crt"}
	show := &v1beta1.SecretReference{Name: "client"}
	tests := []struct {
		name                  string
		tls                   *v1beta1.ClientTLS
		want, reason, message string
	}{
		{"everything fits", &v1beta1.ClientTLS{CA: trust, ClientCertificate: show, ServerName: "prometheus.example"}, "headgate", "", ""},
		{"an authority nobody named", &v1beta1.ClientTLS{ClientCertificate: show, ServerName: "prometheus.example"}, "", v1beta1.ReasonSourceUnavailable, "name its authority with tls.ca"},
		{"another name", &v1beta1.ClientTLS{CA: trust, ClientCertificate: show}, "", v1beta1.ReasonSourceUnavailable, "is not trusted"},
		{"no client certificate", &v1beta1.ClientTLS{CA: trust, ServerName: "prometheus.example"}, "", v1beta1.ReasonAccessDenied, "name one with tls.clientCertificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, problem := get(t, connection.Options{Local: true, Secrets: s.read}, v1beta1.Connection{TLS: tt.tls}, connection.Use{Limit: 1000}, server.URL)
			if tt.reason != "" {
				refused(t, problem, tt.reason, tt.message)
				return
			}
			if problem != nil || got != tt.want {
				t.Errorf("got %q, %+v", got, problem)
			}
		})
	}
}

func TestARedirectNeverTakesCredentialsToAnotherHost(t *testing.T) {
	asked := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/other":
			http.Redirect(w, r, other.URL+"/there?secret=1", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/file":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		case "/same":
			http.Redirect(w, r, "/end", http.StatusFound)
		default:
			_, _ = io.WriteString(w, r.Header.Get("X-Key"))
		}
	}))
	defer server.Close()
	o := connection.Options{Local: true}
	c := v1beta1.Connection{Headers: []v1beta1.Header{{Name: "X-Key", Value: "k"}}}
	for path, message := range map[string]string{
		"/other": "redirects to " + other.URL + "/there, where", "/loop": "again and again", "/file": "redirects to file://",
	} {
		_, problem := get(t, o, c, connection.Use{Limit: 1000}, server.URL+path)
		refused(t, problem, v1beta1.ReasonSourceNotFound, message)
	}
	if got, problem := get(t, o, c, connection.Use{Limit: 1000}, server.URL+"/same"); problem != nil || got != "k" {
		t.Errorf("the same host: got %q, %+v", got, problem)
	}
	if asked > 0 {
		t.Errorf("the other host was asked %d times", asked)
	}
}

func TestNoCanaryLeadsHeadgateToItsOwnMachine(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "inside") }))
	defer server.Close()
	port := server.URL[strings.LastIndex(server.URL, ":"):]
	for _, host := range []string{
		"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "169.254.169.254", "[fe80::1%25lo]", "[fd00:ec2::254]",
		"[64:ff9b::a9fe:a9fe]", "168.63.129.16", "100.100.100.200", "224.0.0.1",
	} {
		_, problem := get(t, connection.Options{}, v1beta1.Connection{}, connection.Use{Limit: 1000}, "http://"+host+port)
		if problem == nil || !strings.Contains(problem.Message, "which Headgate does not ask for a Canary") {
			t.Errorf("%s: %+v", host, problem)
		}
	}
	if got, problem := get(t, connection.Options{}, v1beta1.Connection{}, connection.Use{Limit: 1000, Trusted: true}, server.URL); problem != nil || got != "inside" {
		t.Errorf("the address Headgate was installed with: got %q, %+v", got, problem)
	}
}

func TestAnAnswerIsReadUpToItsLimit(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "1234567890") }))
	defer server.Close()
	if got, problem := get(t, connection.Options{Local: true}, v1beta1.Connection{}, connection.Use{Limit: 10}, server.URL); problem != nil || got != "1234567890" {
		t.Errorf("exactly the limit: %q, %+v", got, problem)
	}
	if _, problem := get(t, connection.Options{Local: true}, v1beta1.Connection{}, connection.Use{Limit: 9}, server.URL); problem == nil || problem.Message != "too large" {
		t.Errorf("one more: %+v", problem)
	}
}

func TestASlowServerIsLeftAfterTheTimeout(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(5 * time.Second):
		}
	}))
	defer server.Close()
	c := v1beta1.Connection{Timeout: &metav1.Duration{Duration: 100 * time.Millisecond}}
	_, problem := get(t, connection.Options{Local: true}, c, connection.Use{Limit: 10}, server.URL)
	refused(t, problem, v1beta1.ReasonQueryTimedOut, "did not answer within 100ms")
}

func TestConnectionsAreSharedByWhatTheyTrust(t *testing.T) {
	connections := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { connections[r.RemoteAddr] = true }))
	defer server.Close()
	pool := connection.New(connection.Options{Local: true})
	for i := range 5 {
		c := v1beta1.Connection{Headers: []v1beta1.Header{{Name: "X-I", Value: fmt.Sprint(i)}}}
		client, problem := pool.Client(t.Context(), "shop", c, connection.Use{Limit: 10})
		if problem != nil {
			t.Fatal(problem.Message)
		}
		resp, err := client.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	if len(connections) != 1 {
		t.Errorf("five requests took %d connections", len(connections))
	}
}
