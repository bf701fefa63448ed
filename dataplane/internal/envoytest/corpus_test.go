// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
	"headgate.dev/headgate/dataplane/xds"
)

// corpus is how many generated worlds a real Envoy has to take.
const corpus = 300

// TestEnvoyTakesWhatUsersWrite brings generated worlds to one Envoy, one after the other:
// it refuses nothing, nothing had to be kept from it, and after each it still serves.
func TestEnvoyTakesWhatUsersWrite(t *testing.T) {
	w := NewWorld(t)
	proxy := w.StartProxy(goldens.PlausibleGateway)
	port := FreePort(t)
	ports := [5]int32{}
	for i := range ports {
		ports[i] = int32(FreePort(t))
	}
	pair := certificate(t, "a", 1, "a.com")
	secret := map[string][]byte{"tls.crt": pair.Cert, "tls.key": pair.Key}
	backend := NewBackend(t, "still")
	rules := 0
	for seed := range int64(corpus) {
		r := goldens.Plausible(seed, ports, secret)
		// A listener that serves in every world.
		gw := r.Gateways[goldens.PlausibleGateway]
		gw.Spec.Listeners = append(gw.Spec.Listeners, gwv1.Listener{Name: "still", Port: int32(port), Protocol: gwv1.HTTPProtocolType})
		still := &gwv1.HTTPRoute{}
		still.Namespace, still.Name = "a", "still"
		section := gwv1.SectionName("still")
		still.Spec.ParentRefs = []gwv1.ParentReference{{Name: "a", SectionName: &section}}
		still.Spec.Hostnames = []gwv1.Hostname{"still.example"}
		still.Spec.Rules = []gwv1.HTTPRouteRule{{BackendRefs: []gwv1.HTTPBackendRef{{BackendRef: gwv1.BackendRef{
			BackendObjectReference: gwv1.BackendObjectReference{Name: "a", Port: new(gwv1.PortNumber(80))},
		}}}}}
		if err := goldens.Add(&r, still); err != nil {
			t.Fatal(err)
		}
		g := graph.Build(r)
		for _, route := range g.Routes {
			for _, rule := range route.Rules {
				if rule.Valid {
					rules++
				}
			}
		}
		snap := xds.Translate(g, goldens.PlausibleGateway)
		for _, key := range snap.ClusterKeys {
			w.Server.PublishEndpoints(key, Endpoints(key, backend))
		}
		version := w.Server.Publish(snap)
		w.Eventually(fmt.Sprintf("world %d is taken", seed), func() error {
			state := w.Server.State(goldens.PlausibleGateway)
			switch {
			case len(state.Refused) > 0:
				return fmt.Errorf("refused: %+v", state.Refused)
			case len(state.Isolated) > 0:
				return fmt.Errorf("kept away: %+v", state.Isolated)
			case state.Acked < version:
				return errors.New("not acknowledged")
			}
			return nil
		})
		if a, err := send(call{port: port, host: "still.example", path: "/"}); err != nil || a.status != http.StatusOK || a.seen.Backend != "still" {
			t.Fatalf("seed %d: after this world the proxy answers %d from %q, %v", seed, a.status, a.seen.Backend, err)
		}
		if t.Failed() {
			t.Fatalf("seed %d is the first world that Envoy does not take", seed)
		}
	}
	t.Logf("%d worlds with %d valid rules", corpus, rules)
	if rules < 2*corpus {
		t.Errorf("only %d valid rules in %d worlds: they show little", rules, corpus)
	}
	if page, err := proxy.Stats("/ready"); err != nil {
		t.Errorf("the proxy is not ready at the end: %s, %v", page, err)
	}
}
