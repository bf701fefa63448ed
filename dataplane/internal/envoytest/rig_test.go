// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// rig is a proxy with a graph published to it.
type rig struct {
	*World
	proxy *Proxy
}

func newRig(t testing.TB) *rig {
	w := NewWorld(t)
	return &rig{World: w, proxy: w.StartProxy(graphtest.GatewayKey)}
}

// newRigWithLinger is newRig with a server that removes clusters sooner than usual.
func newRigWithLinger(t testing.TB, linger time.Duration) *rig {
	w := NewWorld(t)
	w.StopServer()
	w.Linger = linger
	w.StartServer()
	return &rig{World: w, proxy: w.StartProxy(graphtest.GatewayKey)}
}

// publish makes the graph current and waits for its acknowledgement.
func (r *rig) publish(g *graph.Graph) {
	r.TB.Helper()
	r.AwaitAck(graphtest.GatewayKey, r.Server.Publish(xds.Translate(g, graphtest.GatewayKey)))
}

func (r *rig) endpoints(service string, backends ...*Backend) {
	key := graphtest.Key(service)
	r.Server.PublishEndpoints(key, Endpoints(key, backends...))
}

// call describes a request to the proxy.
type call struct {
	method, host, path string
	body               string
	header             map[string]string
	port               uint32
	sni                string // with TLS if not empty
	http2              bool
	// certificate is what the client shows, whatever it is asked for; nil: none.
	certificate *graph.Certificate
}

type answer struct {
	status int
	header http.Header
	body   string
	seen   Seen
}

// do sends one request on a connection of its own, without following redirects.
func (r *rig) do(c call) answer {
	r.TB.Helper()
	a, err := send(c)
	if err != nil {
		r.TB.Fatalf("%s %s%s: %v", c.method, c.host, c.path, err)
	}
	return a
}

func send(c call) (answer, error) {
	scheme := "http"
	transport := &http.Transport{DisableKeepAlives: true, Protocols: new(http.Protocols)}
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, Address(uint32(graph.ProxyPort(int32(c.port)))))
	}
	transport.Protocols.SetHTTP1(!c.http2)
	if c.sni != "" {
		scheme = "https"
		transport.TLSClientConfig = &tls.Config{ServerName: c.sni, InsecureSkipVerify: true}
		if c.certificate != nil {
			pair, err := tls.X509KeyPair(c.certificate.Cert, c.certificate.Key)
			if err != nil {
				return answer{}, err
			}
			transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		transport.Protocols.SetHTTP2(c.http2)
	} else {
		transport.Protocols.SetUnencryptedHTTP2(c.http2)
	}
	host := c.host
	if host == "" {
		host = "example.com"
	}
	method := c.method
	if method == "" {
		method = http.MethodGet
	}
	request, err := http.NewRequest(method, scheme+"://"+host+c.path, strings.NewReader(c.body))
	if err != nil {
		return answer{}, err
	}
	for name, value := range c.header {
		request.Header.Set(name, value)
	}
	client := &http.Client{
		Transport: transport, Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: response.StatusCode, header: response.Header, body: string(body)}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		err = json.Unmarshal(body, &a.seen)
	}
	return a, err
}

// TestFirstConfigurationReachesAProxy is the shortest way through everything.
func TestFirstConfigurationReachesAProxy(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("web", NewBackend(t, "web"))
	if page, err := r.proxy.Stats("/ready"); err == nil {
		t.Errorf("the proxy is ready before its first configuration: %s", page)
	}
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "",
		graphtest.Route("web", nil, graphtest.Rule("/", graphtest.Backend("web", 1))))))
	r.Eventually("the proxy is ready", func() error { _, err := r.proxy.Stats("/ready"); return err })
	if a := r.do(call{port: port, path: "/hello?x=1"}); a.status != 200 || a.seen.Backend != "web" || a.seen.Path != "/hello" || a.seen.Query != "x=1" {
		t.Errorf("got %+v", a)
	}
}
