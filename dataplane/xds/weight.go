// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"reflect"
	"slices"
	"strconv"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"headgate.dev/headgate/dataplane/graph"
)

// million is the denominator of every fraction. Route fractions and weighted
// clusters draw from one random number, and only this denominator keeps them
// independent of sums of weights.
const million = 1_000_000

// share is what goes to one backend of a rule.
type share struct {
	cluster string
	valid   bool
	weight  uint64
	filters graph.Filters
}

// sharesOf gives the shares of a rule in the order of its backendRefs. Two that
// name one upstream with equal filters are one.
func sharesOf(rule *graph.Rule) []share {
	shares := make([]share, 0, len(rule.Backends))
next:
	for i, b := range rule.Backends {
		s := share{cluster: b.Cluster.Name(), valid: b.Valid, weight: uint64(max(b.Weight, 0)), filters: b.Filters}
		if !b.Valid {
			// No cluster has this name; see answer500.
			s.cluster = "invalid-" + strconv.Itoa(i)
			s.filters = graph.Filters{} // they may be what is not valid
		}
		for j := range shares {
			if shares[j].cluster == s.cluster && sameFilters(shares[j].filters, s.filters) {
				shares[j].weight += s.weight
				continue next
			}
		}
		shares = append(shares, s)
	}
	return shares
}

func sameFilters(a, b graph.Filters) bool {
	return a == b || reflect.DeepEqual(a, b)
}

func total(shares []share) (sum uint64) {
	for _, s := range shares {
		sum += s.weight
	}
	return sum
}

// form is how a rule's traffic is brought to its backends.
type form int

const (
	// formRefuse answers 500: nothing is there to forward to.
	formRefuse form = iota
	// formSingle forwards to the only backend.
	formSingle
	// formWeighted is one route with weighted clusters.
	formWeighted
	// formSplit is one route per backend with growing fractions, because weighted
	// clusters can neither rewrite the path for one backend nor tell two entries of
	// one cluster apart by runtime key.
	formSplit
)

func formOf(rule *graph.Rule, shares []share, running bool) form {
	switch {
	case !rule.Valid || total(shares) == 0:
		return formRefuse
	case len(shares) == 1:
		return formSingle
	}
	names := map[string]bool{}
	for _, s := range shares {
		if s.filters.Rewrite != nil && s.filters.Rewrite.Path != nil || running && names[s.cluster] {
			return formSplit
		}
		names[s.cluster] = true
	}
	return formWeighted
}

// baseline gives the weights that stand in the route table: those of the rule, or,
// while a release runs, everything to the first backend that is valid. The latter does not
// change with the weights, so that a change of them is a change of runtime keys and of nothing
// else, and it is the safe side should the keys be missing.
func baseline(shares []share, running bool) []share {
	if !running {
		return shares
	}
	first := 0
	for i, s := range shares {
		if s.valid {
			first = i
			break
		}
	}
	out := make([]share, len(shares))
	for i, s := range shares {
		out[i] = s
		out[i].weight = 0
		if i == first {
			out[i].weight = 1
		}
	}
	return out
}

// weightedClusters gives the clusters with the headers of their own. Envoy applies a
// route's headers after its cluster's, the Gateway API a rule's before its backend's; so where
// a backend has any, the rule's stand at each cluster, before them, and not at the route.
func weightedClusters(rule graph.Filters, shares []share, runtimeKeyPrefix string) *routev3.WeightedCluster {
	out := &routev3.WeightedCluster{}
	if runtimeKeyPrefix != "" {
		out.RuntimeKeyPrefix = runtimeKeyPrefix
	}
	for _, s := range shares {
		var request, response headerMutation
		if ownHeaders(shares) {
			request = headerOptions(rule.RequestHeaders, s.filters.RequestHeaders)
			response = headerOptions(rule.ResponseHeaders, s.filters.ResponseHeaders)
		}
		entry := &routev3.WeightedCluster_ClusterWeight{
			Name:                    s.cluster,
			Weight:                  number(uint32(s.weight)),
			RequestHeadersToAdd:     request.add,
			RequestHeadersToRemove:  request.remove,
			ResponseHeadersToAdd:    response.add,
			ResponseHeadersToRemove: response.remove,
		}
		if s.filters.Auth != nil || s.filters.Session != nil {
			entry.TypedPerFilterConfig = settingsOf(rule, s.filters) // in place of the route's
		}
		if s.filters.Rewrite != nil && s.filters.Rewrite.Hostname != nil {
			entry.HostRewriteSpecifier = &routev3.WeightedCluster_ClusterWeight_HostRewriteLiteral{
				HostRewriteLiteral: *s.filters.Rewrite.Hostname,
			}
		}
		out.Clusters = append(out.Clusters, entry)
	}
	return out
}

// ownHeaders tells whether any share has header modifiers.
func ownHeaders(shares []share) bool {
	return slices.ContainsFunc(shares, func(s share) bool {
		return s.filters.RequestHeaders != nil || s.filters.ResponseHeaders != nil
	})
}

// cumulative gives, for each share, the parts of a million of it and of all before it.
func cumulative(shares []share) []uint32 {
	sum, all := uint64(0), total(shares)
	out := make([]uint32, len(shares))
	for i, s := range shares {
		sum += s.weight
		out[i] = uint32((sum*million + all/2) / all)
	}
	return out
}

// weightKeys gives the runtime keys that hold the weights of a rule under release:
// "<prefix>.<cluster>" for weighted clusters, which is how Envoy composes them, and
// "<prefix>.<index>.<cluster>" for a split. Divert reads them.
func weightKeys(rule *graph.Rule, prefix string) map[string]*structpb.Value {
	shares := sharesOf(rule)
	keys := map[string]*structpb.Value{}
	switch formOf(rule, shares, true) {
	case formWeighted:
		for _, s := range shares {
			keys[weightKey(prefix, s.cluster)] = structpb.NewNumberValue(float64(s.weight))
		}
	case formSplit:
		for i, parts := range cumulative(shares) {
			keys[splitKey(prefix, i, shares[i].cluster)] = splitValue(parts)
		}
	}
	return keys
}

func weightKey(prefix, cluster string) string { return prefix + "." + cluster }

func splitKey(prefix string, i int, cluster string) string {
	return prefix + "." + strconv.Itoa(i) + "." + cluster
}

// splitValue is a fraction in parts of a million.
func splitValue(parts uint32) *structpb.Value {
	return structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
		"numerator":   structpb.NewNumberValue(float64(parts)),
		"denominator": structpb.NewStringValue("MILLION"),
	}})
}
