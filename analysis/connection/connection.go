// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package connection turns the connection of a metric, as the API describes it, into an
// HTTP client: with its headers, credentials and certificates, and with the limits that
// apply because whoever may write a Canary chooses the address, and Headgate's pod asks.
//
//   - An address that a Canary names never leads to Headgate's own machine, to the metadata
//     service of a cloud or to another address of the link: what is checked is the
//     address that is connected to, after the name was resolved.
//   - A redirect is followed on the same host only, so that no credential reaches another.
//   - An answer is read up to a limit, and a secret never becomes a part of a message.
package connection

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// DefaultTimeout is the time-out of one request where the metric names none.
const DefaultTimeout = 10 * time.Second

// Secrets reads a Secret's data. An error that says that it does not exist is one that
// apierrors.IsNotFound knows.
type Secrets func(ctx context.Context, namespace, name string) (map[string][]byte, error)

// Options are what a Pool works with.
type Options struct {
	// Secrets reads what metrics refer to. Nil: no metric may refer to a Secret.
	Secrets Secrets
	// Local lets the addresses that Canaries name lead to this machine: for tests.
	Local bool
}

// Pool makes clients, and keeps the connections of those that trust and show the same
// certificates. Its methods may be called from several goroutines.
type Pool struct {
	o Options

	mu         sync.Mutex
	transports map[[sha256.Size]byte]*http.Transport
}

// New makes a Pool.
func New(o Options) *Pool {
	if o.Secrets == nil {
		o.Secrets = func(context.Context, string, string) (map[string][]byte, error) {
			return nil, fmt.Errorf("Secrets are not read here")
		}
	}
	return &Pool{o: o, transports: map[[sha256.Size]byte]*http.Transport{}}
}

// Use is what a client is for.
type Use struct {
	// Limit is how many bytes of an answer are read at most.
	Limit int64
	// Trusted addresses come from whoever installed Headgate: they may lead anywhere.
	Trusted bool
	// Fresh gives each request a connection of its own. One that is kept stays with the pod that it
	// was opened to: after a release the name of the canary's Service means other pods, and
	// those of the release before would answer for them.
	Fresh bool
}

// Timeout is the time-out of one request.
func Timeout(c v1beta1.Connection) time.Duration {
	if c.Timeout == nil || c.Timeout.Duration <= 0 {
		return DefaultTimeout
	}
	return c.Timeout.Duration
}

// Client makes the client of a connection of a metric of a namespace. The problem is a sentence about
// a Secret that is missing or cannot be used.
func (p *Pool) Client(ctx context.Context, namespace string, c v1beta1.Connection, use Use) (*http.Client, *analysis.Problem) {
	s := secrets{ctx: ctx, read: p.o.Secrets, namespace: namespace}
	headers, problem := s.headers(c)
	if problem != nil {
		return nil, problem
	}
	settings, key, problem := s.tls(c.TLS)
	if problem != nil {
		return nil, problem
	}
	return &http.Client{
		Transport: &carrier{
			transport: p.transport(settings, key, use), headers: headers, limit: use.Limit,
			guarded: !use.Trusted && !p.o.Local,
		},
		CheckRedirect: sameHost,
	}, nil
}

// maxTransports bounds how many different sets of certificates keep their connections.
const maxTransports = 64

func (p *Pool) transport(settings *tls.Config, key []byte, use Use) *http.Transport {
	guarded := !use.Trusted && !p.o.Local
	sum := sha256.Sum256(fmt.Appendf(key, "|%t|%t", guarded, use.Fresh))
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.transports[sum]; t != nil {
		return t
	}
	if len(p.transports) >= maxTransports {
		// Certificates that were rotated are never asked for again; starting over costs a handshake each.
		for k, t := range p.transports {
			t.CloseIdleConnections()
			delete(p.transports, k)
		}
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	if guarded {
		dialer.Control = refuseOwn
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext, t.TLSClientConfig = dialer.DialContext, settings
	t.MaxIdleConnsPerHost, t.MaxResponseHeaderBytes = 4, 64<<10
	t.DisableKeepAlives = use.Fresh
	p.transports[sum] = t
	return t
}

// carrier sends requests with what belongs to the connection, and bounds the answers.
type carrier struct {
	transport http.RoundTripper
	headers   http.Header
	limit     int64
	guarded   bool
}

// RoundTrip implements http.RoundTripper.
func (c *carrier) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.guarded {
		// A proxy of the environment resolves names by itself; what is written as an
		// address is refused before.
		if err := refuseHost(r.URL.Hostname()); err != nil {
			return nil, err
		}
	}
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", "headgate")
	for name, values := range c.headers {
		r.Header[name] = values
	}
	resp, err := c.transport.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	resp.Body = &bounded{body: resp.Body, left: c.limit}
	return resp, nil
}

// bounded reads at most left bytes, and then says that there is more.
type bounded struct {
	body io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// The end of a body that is exactly as long as is allowed.
		var one [1]byte
		if n, err := b.body.Read(one[:]); n == 0 && err != nil {
			return 0, err
		}
		return 0, errTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.body.Read(p)
	b.left -= int64(n)
	return n, err
}

// Close implements io.Closer.
func (b *bounded) Close() error { return b.body.Close() }

// sameHost is the policy on redirects.
func sameHost(r *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case r.URL.Scheme != first.URL.Scheme, r.URL.Host != first.URL.Host, r.Method != first.Method:
		return &redirectError{to: r.URL.Scheme + "://" + r.URL.Host + r.URL.Path}
	case len(via) >= 5:
		return &redirectError{to: "itself, again and again"}
	}
	return nil
}

// redirectError says that a server sends its clients elsewhere.
type redirectError struct{ to string }

// Error implements error.
func (e *redirectError) Error() string { return "redirects to " + e.to }

// secrets reads what one connection refers to.
type secrets struct {
	ctx       context.Context //nolint:containedctx // lives as long as the call that makes the client
	read      Secrets
	namespace string
}

func problem(reason, format string, args ...any) *analysis.Problem {
	return &analysis.Problem{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// value is one key of a Secret.
func (s secrets) value(name, key string) ([]byte, *analysis.Problem) {
	data, err := s.read(s.ctx, s.namespace, name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, problem(v1beta1.ReasonSecretNotFound, "there is no Secret %q in namespace %s", name, s.namespace)
	case apierrors.IsForbidden(err):
		return nil, problem(v1beta1.ReasonNotAllowed, "Headgate may not read Secret %q: grant its service account get on secrets in namespace %s", name, s.namespace)
	case err != nil:
		return nil, problem(v1beta1.ReasonSourceUnavailable, "Secret %q cannot be read: %s", name, Short(err.Error()))
	}
	v, ok := data[key]
	if !ok || len(v) == 0 {
		return nil, problem(v1beta1.ReasonSecretNotFound, "Secret %q has no key %q", name, key)
	}
	return v, nil
}

// line is the value of a key that goes into a header. What writes a Secret from a file
// often leaves a line break at its end.
func (s secrets) line(name, key string) (string, *analysis.Problem) {
	v, p := s.value(name, key)
	if p != nil {
		return "", p
	}
	text := strings.TrimRight(string(v), "\r\n")
	for _, c := range []byte(text) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return "", problem(v1beta1.ReasonSecretNotFound, "the key %q of Secret %q has control characters in it, so it cannot be sent: write it in one line", key, name)
		}
	}
	return text, nil
}

func (s secrets) headers(c v1beta1.Connection) (http.Header, *analysis.Problem) {
	h := http.Header{}
	for _, header := range c.Headers {
		v := header.Value
		if from := header.ValueFrom; from != nil {
			var p *analysis.Problem
			if v, p = s.line(from.Name, from.Key); p != nil {
				return nil, p
			}
		}
		h.Set(header.Name, v)
	}
	if c.BearerToken != nil {
		token, p := s.line(c.BearerToken.Name, c.BearerToken.Key)
		if p != nil {
			return nil, p
		}
		h.Set("Authorization", "Bearer "+token)
	}
	if c.BasicAuth != nil {
		name, p := s.line(c.BasicAuth.Name, "username")
		if p != nil {
			return nil, p
		}
		password, p := s.line(c.BasicAuth.Name, "password")
		if p != nil {
			return nil, p
		}
		r := http.Request{Header: h}
		r.SetBasicAuth(name, password)
	}
	return h, nil
}

// tls gives the settings, and what tells them from others.
func (s secrets) tls(c *v1beta1.ClientTLS) (*tls.Config, []byte, *analysis.Problem) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if c == nil {
		return settings, nil, nil
	}
	settings.ServerName = c.ServerName
	key := fmt.Appendf(nil, "%q", c.ServerName)
	if c.CA != nil {
		pem, p := s.value(c.CA.Name, c.CA.Key)
		if p != nil {
			return nil, nil, p
		}
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(pem) {
			return nil, nil, problem(v1beta1.ReasonSecretNotFound, "the key %q of Secret %q has no certificate in PEM", c.CA.Key, c.CA.Name)
		}
		key = fmt.Appendf(key, "%q", pem)
	}
	if c.ClientCertificate != nil {
		name := c.ClientCertificate.Name
		chain, p := s.value(name, "tls.crt")
		if p != nil {
			return nil, nil, p
		}
		private, p := s.value(name, "tls.key")
		if p != nil {
			return nil, nil, p
		}
		certificate, err := tls.X509KeyPair(chain, private)
		if err != nil {
			// What the parser says may repeat what it read.
			return nil, nil, problem(v1beta1.ReasonSecretNotFound, "Secret %q is no key pair: tls.crt and tls.key must be PEM and belong together", name)
		}
		settings.Certificates = []tls.Certificate{certificate}
		key = fmt.Appendf(key, "%q%q", chain, private)
	}
	return settings, key, nil
}
