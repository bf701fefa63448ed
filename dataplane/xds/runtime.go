// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"strconv"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
)

// runtimeLayers is how many Runtime resources a proxy asks for. Their names are fixed
// in its bootstrap, so routes under release are spread over them by a hash of their names: a
// weight change sends the keys of one in sixteen of the running routes, and all keys of a
// route travel in one resource, which Envoy applies at once.
const runtimeLayers = 16

// RuntimeLayers gives the names of the Runtime resources of every proxy.
func RuntimeLayers() []string {
	names := make([]string, runtimeLayers)
	for i := range names {
		names[i] = layerName(uint32(i))
	}
	return names
}

func layerName(i uint32) string { return "weights-" + strconv.Itoa(int(i)) }

func layerOf(route *graph.Route) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(routeName(route)))
	return layerName(h.Sum32() % runtimeLayers)
}

// runtimes gives every layer, also the empty ones: a proxy waits for each at its start. The
// first one has the share of requests that are logged, unless that is all of them.
func runtimes(routes map[string][]*graph.Route, log *v1beta1.AccessLog) map[string]*runtimev3.Runtime {
	layers := map[string]*runtimev3.Runtime{}
	for _, name := range RuntimeLayers() {
		layers[name] = runtimeLayer(name, routes[name], log)
	}
	return layers
}

// routesByLayer sorts routes into the layers that have their weights.
func routesByLayer(routes []*graph.Route) map[string][]*graph.Route {
	out := make(map[string][]*graph.Route, runtimeLayers)
	for _, route := range routes {
		name := layerOf(route)
		out[name] = append(out[name], route)
	}
	return out
}

// runtimeLayer makes one layer of the routes that have their weights there.
func runtimeLayer(name string, routes []*graph.Route, log *v1beta1.AccessLog) *runtimev3.Runtime {
	layer := &structpb.Struct{}
	if name == layerName(0) && loggedParts(log) < million {
		layer.Fields = map[string]*structpb.Value{accessLogKey: accessLogShare(log)}
	}
	for _, route := range routes {
		if !route.Running {
			continue
		}
		shape := shapeOf(route)
		for _, rule := range route.Rules {
			for key, value := range weightKeys(rule, weightPrefix(route, rule, shape)) {
				if layer.Fields == nil {
					layer.Fields = map[string]*structpb.Value{}
				}
				layer.Fields[key] = value
			}
		}
	}
	return &runtimev3.Runtime{Name: name, Layer: layer}
}

// weightPrefix names the weights of one rule. The shape in it makes keys of two forms
// of a route differ: when rules or backends change, the new keys can be sent ahead of
// the new route table while the old one still reads the old keys.
func weightPrefix(route *graph.Route, rule *graph.Rule, shape string) string {
	return routeName(route) + "/" + shape + "/" + strconv.Itoa(rule.Index)
}

// shapeOf hashes all of a route that decides which weight goes where, and no weight.
func shapeOf(route *graph.Route) string {
	h := fnv.New64a()
	for _, rule := range route.Rules {
		shares := sharesOf(rule)
		fmt.Fprintf(h, "%d %d %q\n", rule.Index, formOf(rule, shares, true), rule.Matches)
		for _, s := range shares {
			fmt.Fprintf(h, "%q\n", s.cluster)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func routeName(route *graph.Route) string {
	return string(route.Kind) + "/" + route.Key.Namespace + "/" + route.Key.Name
}
