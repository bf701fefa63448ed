// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// quit ends the proxy in peace, so that it writes all that it has, and gives the lines of
// its output.
func (r *rig) quit() []string {
	r.TB.Helper()
	answer, err := http.Post("http://"+Address(r.proxy.AdminPort)+"/quitquitquit", "", nil)
	if err != nil {
		r.TB.Fatal(err)
	}
	_ = answer.Body.Close()
	<-r.proxy.exited
	return strings.Split(r.proxy.Log.String(), "\n")
}

// loggedLines are those that are JSON objects.
func loggedLines(t *testing.T, output []string) []map[string]any {
	t.Helper()
	var out []map[string]any
	for _, text := range output {
		var line map[string]any
		if strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &line) == nil {
			out = append(out, line)
		}
	}
	return out
}

// logged is a graph whose Gateway has an access log of its own, or the default one.
func logged(port uint32, log *v1beta1.AccessLog) *graph.Graph {
	g := graphtest.Graph(graphtest.HTTP("http", port, "",
		graphtest.Route("web", nil, graphtest.Rule("/", graphtest.Backend("web", 1)), graphtest.Rule("/none", graphtest.Backend("none", 1)))))
	g.Gateways[0].Proxy.AccessLog = log
	g.Routes[0].Rules[0].Name = "pages"
	return g
}

func TestTheAccessLogSaysWhatBecameOfARequest(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	key := graphtest.Key("web")
	cla := Endpoints(key, NewBackend(t, "web"))
	cla.Endpoints[0].LbEndpoints[0].Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"headgate": {Fields: map[string]*structpb.Value{
		"pod": structpb.NewStringValue("web-7d9f8b6c5-abcde"), "version": structpb.NewStringValue("7d9f8b6c5"),
	}}}}
	r.Server.PublishEndpoints(key, cla)
	r.endpoints("none")
	r.publish(logged(port, &v1beta1.AccessLog{Fields: map[string]string{"tenant": "%REQ(X-TENANT)%", "user_agent": ""}}))
	r.do(call{port: port, path: "/hello?x=1", header: map[string]string{"X-Tenant": "blue"}})
	r.do(call{port: port, path: "/none"})
	stats, err := r.proxy.Stats("/stats/prometheus")
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{`gateway="edge"`, `gateway_namespace="infra"`, `backend_namespace="shop"`, `backend_service="web"`, fmt.Sprintf(`backend_port="%d"`, key.Port), `envoy_cluster_name="` + key.Name() + `"`} {
		found := false
		for line := range strings.Lines(stats) {
			found = found || strings.HasPrefix(line, "envoy_cluster_upstream_rq_xx{") && strings.Contains(line, `envoy_response_code_class="2"`) && strings.Contains(line, label)
		}
		if !found {
			t.Errorf("no envoy_cluster_upstream_rq_xx has the label %s", label)
		}
	}
	for _, label := range []string{`gateway="edge"`, `route="web"`, `route_namespace="shop"`, `route_kind="HTTPRoute"`, `route_host="*"`} {
		found := false
		for line := range strings.Lines(stats) {
			found = found || strings.HasPrefix(line, "envoy_vhost_route_upstream_rq_xx{") && strings.Contains(line, `envoy_response_code_class="2"`) && strings.Contains(line, label)
		}
		if !found {
			t.Errorf("no envoy_vhost_route_upstream_rq_xx has the label %s", label)
		}
	}
	got := loggedLines(t, r.quit())
	if len(got) != 2 {
		t.Fatalf("%d lines for two requests: %v", len(got), got)
	}
	for field, want := range map[string]any{
		"gateway": "infra/edge", "method": "GET", "path": "/hello?x=1", "protocol": "HTTP/1.1", "status": 200.0, "flags": nil,
		"route": "HTTPRoute/shop/web/0/0", "rule": "pages", "backend": key.Name(), "pod": "web-7d9f8b6c5-abcde", "version": "7d9f8b6c5",
		"attempts": 1.0, "client": "127.0.0.1", "tenant": "blue",
	} {
		value, ok := got[0][field]
		if want == nil && (value == nil || value == "-") {
			continue
		}
		if !ok || value != want {
			t.Errorf("%s is %v, want %v", field, value, want)
		}
	}
	for _, field := range []string{"time", "request_id", "upstream", "duration_ms", "bytes_sent"} {
		if got[0][field] == nil {
			t.Errorf("%s is missing: %v", field, got[0])
		}
	}
	if _, ok := got[0]["user_agent"]; ok {
		t.Error("a field that was left out is there")
	}
	if got[1]["status"] != 503.0 || got[1]["flags"] != "UH" || got[1]["route"] != "HTTPRoute/shop/web/1/0" {
		t.Errorf("a request without a pod: %v", got[1])
	}
}

// TestTurningTheAccessLogOffEndsNoConnection counts the listener's configurations.
func TestTurningTheAccessLogOffEndsNoConnection(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("web", NewBackend(t, "web"))
	r.endpoints("none")
	modified := func() string {
		page, err := r.proxy.Admin("/stats?filter=listener_manager.listener_(modified|in_place_updated|added)")
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	r.publish(logged(port, nil))
	r.do(call{port: port, path: "/on"})
	before := modified()
	r.publish(logged(port, &v1beta1.AccessLog{Format: v1beta1.AccessLogOff}))
	r.do(call{port: port, path: "/off"})
	r.publish(logged(port, &v1beta1.AccessLog{Sample: "0%"}))
	r.do(call{port: port, path: "/none-of-them"})
	r.publish(logged(port, nil))
	r.do(call{port: port, path: "/on-again"})
	if after := modified(); after != before {
		t.Errorf("listeners changed from\n%sto\n%s", before, after)
	}
	var paths []string
	for _, line := range loggedLines(t, r.quit()) {
		paths = append(paths, fmt.Sprint(line["path"]))
	}
	if got := strings.Join(paths, " "); got != "/on /on-again" {
		t.Errorf("logged: %s", got)
	}
}

func TestEnvoyKnowsEveryOperatorThatAnAccessLogMayUse(t *testing.T) {
	r := newRig(t)
	r.publish(logged(FreePort(t), &v1beta1.AccessLog{Format: v1beta1.AccessLogText, Text: strings.Join(graph.Operators(), " ")}))
}

// TestWhatEnvoyRefusesOfAnAccessLogIsRefusedBefore: one operator that cannot be written would
// keep every listener of the Gateway from being served.
func TestWhatEnvoyRefusesOfAnAccessLogIsRefusedBefore(t *testing.T) {
	bad := []string{
		"%REQ(A B)%", "%REQ(A,B)%", "%REQ(A:B)%", "%REQ(a\nb)%", "%RESP(A?B?C)%", "%REQ(\u00e9)%", "%TRAILER(a\"b)%",
		"%FILTER_STATE(x:BOGUS)%", "%FILTER_STATE(x:FIELD)%", "%FILTER_STATE(x:PLAIN:y)%",
		"%PATH(X)%", "%PATH(WQ:X)%", "%METADATA(BOGUS:x)%", "%GRPC_STATUS(X)%", "%REQUESTED_SERVER_NAME(X)%", "%REQUESTED_SERVER_NAME(SNI_FIRST:X)%",
		"%REQ(A):99999999999999999999%", "%START_TIME(a\nb)%",
	}
	good := []string{
		"%REQ(:PATH)%", "%REQ(A?:PATH)%", "%REQ(!#$&'*+-.^_`|~a)%", "%REQ(a%b)%", "%REQ(A):0%", "%REQ(A):99999%", "%PATH(WQ:ORIG):5%", "%PATH(NQ)%", "%PATH()%", "%GRPC_STATUS()%", "%GRPC_STATUS(NUMBER)%",
		"%FILTER_STATE(x)%", "%FILTER_STATE(x:TYPED)%", "%FILTER_STATE(x:FIELD:y)%", "%FILTER_STATE(x:FIELD:y:z)%", "%REQUESTED_SERVER_NAME(HOST_FIRST:ORIG_OR_HOST)%", "%METADATA(UPSTREAM_HOST:a:b)%",
		"%DYNAMIC_METADATA(a:b):9%", "%QUERY_PARAM(a):9%", "%START_TIME(%Y %9f %%)%", "%RESPONSE_CODE_DETAILS(X)%", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(24)%",
	}
	for _, operator := range graph.Operators() {
		text := strings.TrimSuffix(operator, "%") + ":5%"
		if len(graph.AccessLogProblems(&v1beta1.AccessLog{Text: text})) > 0 {
			bad = append(bad, text)
		} else {
			good = append(good, text)
		}
	}
	r := newRig(t)
	for _, text := range good {
		log := &v1beta1.AccessLog{Format: v1beta1.AccessLogText, Text: text}
		if problems := graph.AccessLogProblems(log); len(problems) > 0 {
			t.Errorf("%s is refused: %s", text, problems)
		}
	}
	r.publish(logged(FreePort(t), &v1beta1.AccessLog{Format: v1beta1.AccessLogText, Text: strings.Join(good, " ")}))
	for _, text := range bad {
		log := &v1beta1.AccessLog{Format: v1beta1.AccessLogText, Text: text}
		if problems := graph.AccessLogProblems(log); len(problems) != 1 {
			t.Errorf("%s: problems %q, want one", text, problems)
		}
		version := r.Server.Publish(xds.Translate(logged(FreePort(t), log), graphtest.GatewayKey))
		r.Eventually("the proxy answers", func() error {
			if state := r.Server.State(graphtest.GatewayKey); state.Answered < version || len(state.Refused) == 0 {
				return fmt.Errorf("%s: %+v", text, state)
			}
			return nil
		})
	}
}
