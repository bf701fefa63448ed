// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
)

// Diversions names Services that get no traffic, whatever the routes say, and for each the
// Service that gets its share in the same rule: for a canary, the stable one.
type Diversions map[types.NamespacedName]types.NamespacedName

// Divert gives a layer with the weights of running routes in which no diverted Service has a
// share of a rule that has another backend: its weight is 0 and the Service named for it has
// the sum. That is, to the digit, what a release writes when it takes its traffic back, so
// nothing changes once more when the routes say the same.
//
// Where a rule does not have that Service, or has it diverted too, the other backends keep
// their weights among themselves; where they have none, the rule is left alone, as one
// that has a diverted Service only: that is how a user sends testers to a canary.
//
// The layer is not changed. It is given back itself when nothing differs, so Divert of
// what Divert gave is that. It knows nothing but runtime keys: a route on which no release
// runs has its weights in the route table, and those of connections and datagrams stand in filters and
// endpoints. No release moves either.
func Divert(layer *runtimev3.Runtime, d Diversions) *runtimev3.Runtime {
	fields := layer.GetLayer().GetFields()
	var after map[string]*structpb.Value
	for rule, shares := range runtimeShares(fields, rulesWith(fields, d)) {
		if !divert(shares, d) {
			continue
		}
		if after == nil {
			after = maps.Clone(fields)
		}
		maps.Copy(after, runtimeKeys(rule, shares))
	}
	if after == nil {
		return layer
	}
	return &runtimev3.Runtime{Name: layer.Name, Layer: &structpb.Struct{Fields: after}}
}

// runtimeShare is the share of one backend of a rule, as its runtime key has it.
type runtimeShare struct {
	cluster string
	service types.NamespacedName // empty for what is no Service
	// port is what makes the cluster one of several of its Service.
	port   string
	weight float64
	// index is the place in a split, which has shares in parts of a million; else -1.
	index int
}

// runtimeKey takes a key of weightKeys apart: "kind/namespace/name/shape/rule", which is
// the prefix of the rule, and what follows the dot behind it.
func runtimeKey(key string) (rule, rest string, ok bool) {
	at := 0
	for range 4 {
		slash := strings.IndexByte(key[at:], '/')
		if slash < 0 {
			return "", "", false
		}
		at += slash + 1
	}
	dot := strings.IndexByte(key[at:], '.')
	if dot < 0 {
		return "", "", false
	}
	return key[:at+dot], key[at+dot+1:], true
}

// shareOf reads the weight under a key. The value tells its form: a fraction is one of a split.
func shareOf(rest string, value *structpb.Value) (runtimeShare, bool) {
	s := runtimeShare{cluster: rest, index: -1, weight: value.GetNumberValue()}
	if fraction := value.GetStructValue(); fraction != nil {
		index, cluster, _ := strings.Cut(rest, ".")
		i, err := strconv.Atoi(index)
		if err != nil {
			return s, false
		}
		s.cluster, s.index, s.weight = cluster, i, fraction.GetFields()["numerator"].GetNumberValue()
	}
	namespace, rest, _ := strings.Cut(s.cluster, "/")
	service, port, ok := strings.Cut(rest, "/")
	if _, variant, _ := strings.Cut(port, "/"); ok && variant != string(graph.UpstreamXBackend) && !strings.HasPrefix(variant, string(graph.UpstreamXBackend)+"/") {
		s.service, s.port = types.NamespacedName{Namespace: namespace, Name: service}, port
	}
	return s, true
}

// rulesWith finds the rules in which a diverted Service is named.
func rulesWith(fields map[string]*structpb.Value, d Diversions) map[string]bool {
	rules := map[string]bool{}
	if len(d) == 0 {
		return rules
	}
	for key, value := range fields {
		rule, rest, ok := runtimeKey(key)
		if !ok || rules[rule] {
			continue
		}
		if s, ok := shareOf(rest, value); ok && d.away(s) {
			rules[rule] = true
		}
	}
	return rules
}

func (d Diversions) away(s runtimeShare) bool {
	_, ok := d[s.service]
	return ok && s.service.Name != ""
}

// runtimeShares reads the shares of some rules, in the order in which they are drawn where that matters.
func runtimeShares(fields map[string]*structpb.Value, rules map[string]bool) map[string][]runtimeShare {
	out := map[string][]runtimeShare{}
	if len(rules) == 0 {
		return out
	}
	for key, value := range fields {
		if rule, rest, ok := runtimeKey(key); ok && rules[rule] {
			if s, ok := shareOf(rest, value); ok {
				out[rule] = append(out[rule], s)
			}
		}
	}
	for _, shares := range out {
		slices.SortFunc(shares, func(a, b runtimeShare) int {
			return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.cluster, b.cluster))
		})
		for i := len(shares) - 1; i > 0 && shares[i].index >= 0; i-- {
			shares[i].weight = max(0, shares[i].weight-shares[i-1].weight) // a fraction has those before it in it
		}
	}
	return out
}

// divert moves the weights of one rule, and tells whether any was moved.
func divert(shares []runtimeShare, d Diversions) (moved bool) {
	others := 0.0
	for i, s := range shares {
		if !d.away(s) {
			others += s.weight
			continue
		}
		if to := heir(shares, i, d); to >= 0 && s.weight > 0 {
			shares[to].weight += s.weight
			shares[i].weight = 0
			others, moved = others+s.weight, true
		}
	}
	for i, s := range shares {
		if others > 0 && s.weight > 0 && d.away(s) {
			shares[i].weight, moved = 0, true
		}
	}
	return moved
}

// heir is which share gets what is taken from one: of the Service named for it, the one at
// the same port, and of several of those the one that stands before it. It is -1 for none.
func heir(shares []runtimeShare, from int, d Diversions) int {
	best, rank := -1, -1
	to := d[shares[from].service]
	for i, s := range shares {
		if to.Name == "" || s.service != to || d.away(s) {
			continue
		}
		r := 0
		if s.port == shares[from].port {
			r = 1
			if i < from {
				r = 2 + i
			}
		}
		if r > rank {
			best, rank = i, r
		}
	}
	return best
}

// runtimeKeys writes the shares of a rule as weightKeys does.
func runtimeKeys(rule string, shares []runtimeShare) map[string]*structpb.Value {
	keys := make(map[string]*structpb.Value, len(shares))
	split := make([]share, len(shares))
	for i, s := range shares {
		split[i].weight = uint64(s.weight)
		if s.index < 0 {
			keys[weightKey(rule, s.cluster)] = structpb.NewNumberValue(s.weight)
		}
	}
	for i, parts := range cumulative(split) {
		if s := shares[i]; s.index >= 0 {
			keys[splitKey(rule, s.index, s.cluster)] = splitValue(parts)
		}
	}
	return keys
}
