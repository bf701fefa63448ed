// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// withoutTest are the features that the suite names and has no test of. They are shown by our own.
var withoutTest = sets.New[features.FeatureName]("ClusterTrustBundle")

// TestEveryClaimedFeatureIsShown holds what GatewayClasses claim against the suite: each
// feature is that of a test, and those of HTTPRoutes and GRPCRoutes of one that has passed.
func TestEveryClaimedFeatureIsShown(t *testing.T) {
	passed, err := readBaseline("testdata/experimental.txt")
	if err != nil {
		t.Fatal(err)
	}
	shown, known := sets.New[features.FeatureName](), sets.New[features.FeatureName]()
	names := sets.New(passed...)
	for _, test := range tests.ConformanceTests {
		known.Insert(test.Features...)
		if names.Has(test.ShortName) {
			t.Logf("%s shows %v", test.ShortName, test.Features)
			shown.Insert(test.Features...)
		}
	}
	// This module knows nothing of Headgate's packages: the list is read from its source.
	source, err := os.ReadFile("../../dataplane/status/features.go")
	if err != nil {
		t.Fatal(err)
	}
	claimed := regexp.MustCompile(`features\.Support(\w+)`).FindAllSubmatch(source, -1)
	if len(claimed) < 40 {
		t.Fatalf("only %d features are claimed", len(claimed))
	}
	for _, m := range claimed {
		f := features.FeatureName(m[1])
		switch {
		case withoutTest.Has(f) && known.Has(f):
			t.Errorf("the suite has a test of %s now: take it off the list", f)
		case withoutTest.Has(f):
		case !known.Has(f):
			t.Errorf("%s is claimed, and the suite has no test of it", f)
		case !shown.Has(f) && (strings.HasPrefix(string(f), "HTTPRoute") || strings.HasPrefix(string(f), "GRPCRoute")):
			t.Errorf("%s is claimed, and none of the suite's tests of it has passed", f)
		}
	}
}
