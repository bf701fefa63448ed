// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/server"
	"headgate.dev/headgate/dataplane/xds"
)

// spoiled gives a snapshot in which the rules that are named have something that Envoy
// refuses and that no check of ours knows.
func spoiled(snap xds.Snapshot, spoil map[int]func(*routev3.Route)) xds.Snapshot {
	for name, message := range snap.Routes {
		table := proto.Clone(xds.Table(message)).(*routev3.RouteConfiguration)
		for _, host := range table.VirtualHosts {
			for _, route := range host.Routes {
				if rule, named := xds.RuleOf(route.Name); named && spoil[rule.Index] != nil {
					spoil[rule.Index](route)
				}
			}
		}
		snap.Routes[name] = xds.WithTable(message, table)
	}
	return snap
}

// regexRewrite cannot be compiled by Envoy; only its engine knows.
func regexRewrite(route *routev3.Route) {
	route.GetRoute().RegexRewrite = &matcherv3.RegexMatchAndSubstitute{
		Pattern: &matcherv3.RegexMatcher{Regex: "(unclosed"}, Substitution: "x",
	}
}

func regexMatch(route *routev3.Route) {
	route.Match.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: "(unclosed"}}
}

// TestARuleThatEnvoyRefusesHarmsNothingElse has 30 rules behind one route table, of
// which some cannot be served. The refusal does not name them.
func TestARuleThatEnvoyRefusesHarmsNothingElse(t *testing.T) {
	const rules = 30
	r := newRig(t)
	port := FreePort(t)
	graphOf := func(service string) *graph.Graph {
		var all []*graph.Rule
		for i := range rules {
			all = append(all, graphtest.Rule(fmt.Sprintf("/%d/", i), graphtest.Backend(service, 1)))
		}
		all = append(all, graphtest.Rule("/", graphtest.Backend(service, 1)))
		return graphtest.Graph(graphtest.HTTP("http", port, "", graphtest.Route("web", nil, all...)))
	}
	translate := func(service string) xds.Snapshot { return xds.Translate(graphOf(service), graphtest.GatewayKey) }
	for _, service := range []string{"old", "new", "newer", "restarted"} {
		r.endpoints(service, NewBackend(t, service))
	}
	serves := func(what string, want map[int]string, otherwise string) {
		t.Helper()
		for i := range rules {
			expect := otherwise
			if w, ok := want[i]; ok {
				expect = w
			}
			a := r.do(call{port: port, path: fmt.Sprintf("/%d/", i)})
			got := a.seen.Backend
			if a.status != 200 {
				got = fmt.Sprint(a.status)
			}
			if got != expect {
				t.Errorf("%s: rule %d is answered by %q, want %q", what, i, got, expect)
			}
		}
	}
	isolated := func(want ...int) {
		t.Helper()
		r.Eventually("the rules are found", func() error {
			state := r.Server.State(graphtest.GatewayKey)
			if state.Acked < state.Published || len(state.Isolated) != len(want) {
				return fmt.Errorf("%+v", state)
			}
			return nil
		})
		for n, i := range r.Server.State(graphtest.GatewayKey).Isolated {
			if i.Rule.Index != want[n] || i.Rule.Route.Name != "web" || !strings.Contains(i.Message, "(unclosed") {
				t.Errorf("isolated %s with %q, want rule %d with Envoy's words", i.Rule, i.Message, want[n])
			}
		}
	}
	r.publish(graphOf("old"))
	l := startLoad(t, port) // on "/", which no refusal may touch

	bad := map[int]func(*routev3.Route){7: regexRewrite, 8: regexRewrite, 21: regexMatch}
	r.Server.Publish(spoiled(translate("new"), bad))
	isolated(7, 8, 21)
	// What cannot be matched falls to the rule behind it.
	serves("after the refusal", map[int]string{7: "500", 8: "500"}, "new")

	r.Server.Publish(spoiled(translate("newer"), bad)) // every rule changes, the bad ones too
	isolated(7, 8, 21)
	serves("after another change", map[int]string{7: "500", 8: "500"}, "newer")

	delete(bad, 7)
	r.Server.Publish(spoiled(translate("newer"), bad))
	isolated(8, 21)
	serves("after one is mended", map[int]string{8: "500"}, "newer")

	l.stop()
	// A server that knows nothing of the time before finds them as well; it does not
	// know what the proxies have, so that the good rules are away for some milliseconds.
	r.StopServer()
	r.StartServer()
	for _, service := range []string{"newer", "restarted"} {
		r.endpoints(service, NewBackend(t, service))
	}
	r.Server.Publish(spoiled(translate("restarted"), bad))
	isolated(8, 21)
	serves("after a restart", map[int]string{8: "500"}, "restarted")

	r.Server.Publish(translate("restarted"))
	isolated()
	serves("when all are mended", nil, "restarted")
}

// TestWhatBreaksTheSchemaIsNotSent has a rule that Envoy's own schema forbids.
func TestWhatBreaksTheSchemaIsNotSent(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("web", NewBackend(t, "web"))
	g := graphtest.Graph(graphtest.HTTP("http", port, "", graphtest.Route("web", nil,
		graphtest.Rule("/good/", graphtest.Backend("web", 1)), graphtest.Rule("/bad/", graphtest.Backend("web", 1)))))
	snap := spoiled(xds.Translate(g, graphtest.GatewayKey), map[int]func(*routev3.Route){
		1: func(route *routev3.Route) { route.GetRoute().PrefixRewrite = "a\nb" },
	})
	r.AwaitAck(graphtest.GatewayKey, r.Server.Publish(snap))
	state := r.Server.State(graphtest.GatewayKey)
	if len(state.Refused) > 0 || len(state.Isolated) != 1 || state.Isolated[0].Rule.Index != 1 {
		t.Errorf("state %+v, want rule 1 isolated and nothing refused", state)
	}
	for path, want := range map[string]int{"/good/": 200, "/bad/": 500} {
		if a := r.do(call{port: port, path: path}); a.status != want {
			t.Errorf("%s is answered with %d, want %d", path, a.status, want)
		}
	}
	// A whole resource: the cluster is left out, and what needs it answers 500.
	broken := xds.Translate(g, graphtest.GatewayKey)
	name := graphtest.Key("web").Name()
	broken.Clusters["broken"] = proto.Clone(broken.Clusters[name])
	proto.Reset(broken.Clusters["broken"])
	r.Server.Publish(broken)
	r.Eventually("the rest goes on", func() error {
		state = r.Server.State(graphtest.GatewayKey)
		if state.Answered < state.Published {
			return errors.New("not answered")
		}
		return nil
	})
	if want := []server.Nack{{Resource: "broken"}}; len(state.Refused) != 1 || state.Refused[0].Resource != want[0].Resource || state.Acked >= state.Published {
		t.Errorf("state %+v, want the cluster refused", state)
	}
}
