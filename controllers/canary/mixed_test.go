// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestWhatElseThanTheWeightSplits(t *testing.T) {
	for _, tt := range []struct {
		name, rules string
		want        splitting
	}{
		{"nothing, with both in each rule", `[{backendRefs: [{name: shop, port: 80}, {name: shop-canary, port: 80}]}]`, splitting{}},
		{"nothing, for other Services", `[{backendRefs: [{name: cart, port: 80}], sessionPersistence: {sessionName: s}}]`, splitting{}},
		{"nothing, for a mirror of the canary", `[{backendRefs: [{name: shop, port: 80}, {name: shop-canary, port: 80}], filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shop-canary, port: 80}}}]}]`, splitting{}},
		{"a rule for testers", `[{backendRefs: [{name: shop, port: 80}, {name: shop-canary, port: 80}]}, {backendRefs: [{name: shop-canary, port: 80}]}]`, splitting{otherWays: true}},
		{"a rule that is stable's alone", `[{backendRefs: [{name: shop, port: 80}]}]`, splitting{otherWays: true}},
		{"sessions", `[{sessionPersistence: {sessionName: s}, backendRefs: [{name: shop, port: 80}, {name: shop-canary, port: 80}]}]`, splitting{sticky: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			route := &unstructured.Unstructured{Object: map[string]any{}}
			if err := yaml.Unmarshal([]byte("{kind: HTTPRoute, metadata: {namespace: ns, name: r}, spec: {rules: "+tt.rules+"}}"), &route.Object); err != nil {
				t.Fatal(err)
			}
			if got := splits(route, backendPair{namespace: "ns", stable: "shop", canary: "shop-canary"}); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
