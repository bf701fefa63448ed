// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"headgate.dev/headgate/dataplane/internal/graphtest"
)

// One Envoy answers on both families, and an IPv4 client is known by its IPv4 address
// there: X-Forwarded-For and access logs do not change with the family of the socket.
func TestDualStack(t *testing.T) {
	probe, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6: ", err)
	}
	_ = probe.Close()
	w := NewWorld(t)
	r := &rig{World: w, proxy: w.StartProxyOn(graphtest.GatewayKey, true)}
	r.endpoints("web", NewBackend(t, "web"))
	port := FreePort(t)
	g := graphtest.Graph(graphtest.HTTP("http", port, "", graphtest.Route("web", nil, graphtest.Rule("/", graphtest.Backend("web", 1)))))
	g.Gateways[0].IPv6 = true
	r.publish(g)
	for host, client := range map[string]string{"127.0.0.1": "127.0.0.1", "::1": "::1"} {
		url := func(port uint32, path string) string {
			return "http://" + net.JoinHostPort(host, strconv.Itoa(int(port))) + path
		}
		w.Eventually("an answer on "+host, func() error {
			body, err := read(url(port, "/"))
			if err == nil && !strings.Contains(body, fmt.Sprintf("%q", client)) {
				err = fmt.Errorf("the backend saw %s, want X-Forwarded-For %s", body, client)
			}
			return err
		})
		if _, err := read(url(r.proxy.StatsPort, "/ready")); err != nil {
			t.Errorf("readiness on %s: %v", host, err)
		}
	}
}

func read(url string) (string, error) {
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}
