// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/shop"
)

// plugin builds kubectl-headgate and gives a function that runs it as an administrator
// would.
func (sc *scene) plugin() func(args ...string) (string, error) {
	sc.t.Helper()
	program := filepath.Join(sc.t.TempDir(), "kubectl-headgate")
	build := exec.CommandContext(sc.t.Context(), "go", "build", "-o", program, "./cmd/kubectl-headgate")
	build.Dir = sc.Repo
	if out, err := build.CombinedOutput(); err != nil {
		sc.t.Fatalf("building the plugin: %v\n%s", err, out)
	}
	return func(args ...string) (string, error) {
		cmd := exec.CommandContext(sc.t.Context(), program, append(args, "-n", sc.Name)...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+sc.Kubeconfig)
		out, err := cmd.Output()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			err = errors.New(err.Error() + ": " + string(exit.Stderr))
		}
		return string(out), err
	}
}

// What the plugin shows of the Gateway is what its proxies serve at this moment:
// the weights of the running release too.
func TestThePluginShowsWhatTheProxiesServe(t *testing.T) {
	t.Parallel()
	sc := open(t, gated)
	headgate := sc.plugin()
	has := func(text string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("no %q in\n%s", w, text)
			}
		}
	}
	// The proxies may be a moment behind the objects, no longer.
	routes := func() string {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(200 * time.Millisecond) {
			out, err := headgate("gateway", "routes", "front", "--exit-code")
			if err == nil || time.Now().After(end) {
				sc.must(err)
				t.Log("\n" + out)
				return out
			}
		}
	}
	service := sc.Name + "/" + shop.Name
	has(routes(), shop.Host, service+"/80 100%  HTTPRoute/"+service, "what the API objects ask for.")

	sc.deploy(v2)
	sc.waitFor("the gate", waitsForApproval)
	has(routes(), service+"/80 75%, "+service+"-canary/80 25%")
	out, err := headgate("gateway", "config", "httproute/checkout")
	sc.must(err)
	has(out, "name: "+service+"-canary/80", "runtime_key_prefix: HTTPRoute/"+service, "lb_endpoints:", "runtime:")
	out, err = headgate("gateway", "why", "checkout")
	sc.must(err)
	t.Log("\n" + out)
	has(out, "is attached to 1 of its 1 parent.", "✓ every connected proxy has confirmed the route")
	out, err = headgate("gateway", "status", "front")
	sc.must(err)
	t.Log("\n" + out)
	has(out, "Gateway "+sc.Name+"/front  served", sc.Address, "HTTPRoute "+service+"  served")
	var table struct{ Rows []any }
	out, err = headgate("gateway", "routes", "front", "-o", "json")
	if sc.must(err); json.Unmarshal([]byte(out), &table) != nil || len(table.Rows) == 0 {
		t.Errorf("as JSON: %s", out)
	}

	sc.must(sc.Command(t.Context(), "promote"))
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.waitPhase(v1beta1.PhaseIdle)
	has(routes(), service+"/80 100%  HTTPRoute/"+service)
	sc.close()
}
