// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/xds"
)

// tableOf is a route table with two matches of each rule, each rule with its content.
func tableOf(rules ...string) *routev3.RouteConfiguration {
	host := &routev3.VirtualHost{Name: "*", Domains: []string{"*"}}
	for i, content := range rules {
		for match := range 2 {
			host.Routes = append(host.Routes, &routev3.Route{
				Name:  fmt.Sprintf("HTTPRoute/shop/web/%d/%d", i, match),
				Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: fmt.Sprintf("/%s/%d", content, match)}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{
					ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: content},
				}},
			})
		}
	}
	return &routev3.RouteConfiguration{Name: "http-80", VirtualHosts: []*routev3.VirtualHost{host}}
}

func ruleAt(i int) xds.Rule {
	return xds.Rule{Kind: "HTTPRoute", Route: types.NamespacedName{Namespace: "shop", Name: "web"}, Index: i}
}

// envoy accepts a table without bad clusters, and without bad matches.
type envoy struct{ badCluster, badMatch map[string]bool }

func (e envoy) accepts(m proto.Message) bool {
	for _, route := range xds.Table(m).VirtualHosts[0].Routes {
		if e.badCluster[route.GetRoute().GetCluster()] || e.badMatch[route.Match.GetPath()] {
			return false
		}
	}
	return true
}

// search lets Envoy answer until it is settled, and counts the trials. Served is called
// with each table that Envoy takes.
func (e envoy) search(i *isolation, served func(*routev3.RouteConfiguration)) (trials int) {
	for ; !i.settled() && trials < 10*maxTrials; trials++ {
		table := i.table()
		if !e.accepts(table) {
			i.refused("refused")
			continue
		}
		served(xds.Table(table))
		i.accepted()
	}
	return trials
}

// answers tells what each rule does: its cluster, or "500", or "" when it is not there.
func answers(table *routev3.RouteConfiguration) map[int]string {
	out := map[int]string{}
	for _, route := range table.VirtualHosts[0].Routes {
		rule, _ := xds.RuleOf(route.Name)
		out[rule.Index] = route.GetRoute().GetCluster()
		if out[rule.Index] == "" {
			out[rule.Index] = fmt.Sprint(route.GetDirectResponse().GetStatus())
		}
	}
	return out
}

func begin(whole, former *routev3.RouteConfiguration) *isolation {
	i := isolate(whole, former)
	i.refused("refused")
	return i
}

func TestIsolationFindsExactlyWhatIsRefused(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		n, bad := 1+random.IntN(40), map[string]bool{}
		var was, is []string
		want := map[int]string{}
		for i := range n {
			content := fmt.Sprintf("old-%d", i)
			was = append(was, content)
			if random.IntN(2) == 0 {
				content = fmt.Sprintf("new-%d", i)
			}
			want[i] = content
			if content[0] == 'n' && random.IntN(6) == 0 || i == n-1 && len(bad) == 0 {
				content = fmt.Sprintf("bad-%d", i)
				bad[content], want[i] = true, "500"
			}
			is = append(is, content)
		}
		former := tableOf(was...)
		if random.IntN(3) == 0 {
			former = nil
		}
		e := envoy{badCluster: bad}
		i := begin(tableOf(is...), former)
		trials := e.search(i, func(served *routev3.RouteConfiguration) {
			if former == nil {
				return
			}
			for rule, does := range answers(served) {
				if does == "500" && want[rule] != "500" {
					t.Errorf("seed %d: rule %d answers 500 while another is looked for", seed, rule)
				}
			}
		})
		if got := answers(xds.Table(i.table())); !maps.Equal(got, want) {
			t.Fatalf("seed %d: served %v, want %v", seed, got, want)
		}
		if bound := len(bad) * (bits.Len(uint(n)) + 2); trials > bound {
			t.Errorf("seed %d: %d trials to find %d of %d", seed, trials, len(bad), n)
		}
		if away := i.away(); len(away) != len(bad) {
			t.Errorf("seed %d: reported %v, want %d", seed, away, len(bad))
		}
	}
}

func TestIsolationOfAMatch(t *testing.T) {
	e := envoy{badMatch: map[string]bool{"/c/1": true}}
	i := begin(tableOf("a", "b", "c", "d"), nil)
	e.search(i, func(*routev3.RouteConfiguration) {})
	if got, want := answers(xds.Table(i.table())), (map[int]string{0: "a", 1: "b", 3: "d"}); !maps.Equal(got, want) {
		t.Errorf("served %v, want %v: what cannot be matched cannot answer 500", got, want)
	}
}

func TestIsolationSurvivesChangesAndHeals(t *testing.T) {
	e := envoy{badCluster: map[string]bool{"bad": true}}
	none := func(*routev3.RouteConfiguration) {}
	i := begin(tableOf("a", "bad", "c", "d"), tableOf("a", "b", "c", "d"))
	e.search(i, none)

	i.renew(tableOf("a", "bad", "c", "other")) // somebody else's change
	if trials := e.search(i, none); trials != 1 {
		t.Errorf("%d trials for the change of another rule, want 1", trials)
	}
	if got, want := answers(xds.Table(i.table())), (map[int]string{0: "a", 1: "500", 2: "c", 3: "other"}); !maps.Equal(got, want) {
		t.Errorf("served %v, want %v", got, want)
	}

	i.renew(tableOf("a", "bad", "c", "other")) // the same again
	if !i.settled() {
		t.Error("the same table is tried again")
	}

	i.renew(tableOf("a", "mended", "c", "other"))
	e.search(i, none)
	if got := answers(xds.Table(i.table()))[1]; got != "mended" || !i.clean() {
		t.Errorf("the mended rule is served as %q, clean: %v", got, i.clean())
	}
}

func TestIsolationEndsWhenNoRuleIsToBlame(t *testing.T) {
	i := begin(tableOf("a", "b", "c"), tableOf("a", "b", "d"))
	trials := 0
	for ; !i.settled() && trials < 10; trials++ {
		i.refused("the table's name is wrong")
	}
	if whole := tableOf("a", "b", "c"); !i.stuck || !proto.Equal(i.table(), whole) {
		t.Errorf("after %d refusals: stuck %v, table %v", trials, i.stuck, i.table())
	}
	if got := slices.Collect(maps.Keys(i.away())); !slices.Equal(got, []xds.Rule{ruleAt(2)}) {
		t.Errorf("reported %v, want the rule that changed", got)
	}
	mended := tableOf("a", "b", "c")
	mended.Name = "http-81"
	i.renew(mended)
	if !proto.Equal(i.table(), mended) {
		t.Errorf("a rule that was not to blame is kept away from the mended table: %v", i.table())
	}
}

func TestIsolationEndsWhenEveryRuleIsBad(t *testing.T) {
	var rules []string
	e := envoy{badCluster: map[string]bool{}}
	for i := range 1000 {
		rules = append(rules, fmt.Sprintf("bad-%d", i))
		e.badCluster[rules[i]] = true
	}
	i := begin(tableOf(rules...), nil)
	if trials := e.search(i, func(*routev3.RouteConfiguration) {}); trials > 2*maxTrials {
		t.Errorf("%d trials", trials)
	}
	if !e.accepts(i.table()) || len(i.away()) != len(rules) {
		t.Errorf("%d rules are reported, the table is acceptable: %v", len(i.away()), e.accepts(i.table()))
	}
}
