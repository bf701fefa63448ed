// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"os"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/pkg/features"
)

func TestWhatWasLost(t *testing.T) {
	before := baseline{"A", "Ab", "B"}
	for _, tt := range []struct {
		name, run string
		passed    []string
		want      []string
	}{
		{"everything passed", "^TestConformance$", []string{"A", "Ab", "B", "New"}, nil},
		{"one failed, was skipped or is gone", "^TestConformance$", []string{"A", "Ab"}, []string{"B"}},
		{"a run of some answers for those only", "^TestConformance$/(^A$)", []string{"A"}, nil},
		{"a run of some that lost one of them", "^TestConformance$/(A|X)", []string{"A"}, []string{"Ab"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run, err := picked(tt.run)
			if err != nil {
				t.Fatal(err)
			}
			if got := before.lost(sets.New(tt.passed...), run); !slices.Equal(got, tt.want) {
				t.Errorf("lost %q, want %q", got, tt.want)
			}
		})
	}
	if got, want := string(before.with(sets.New("Aa", "B"))), "A\nAa\nAb\nB\n"; got != want {
		t.Errorf("the next baseline is %q, want %q", got, want)
	}
}

// The list of a quick run names tests that exist, and leaves no kind out.
func TestTheQuickListCoversEveryKind(t *testing.T) {
	list := os.Getenv("CONFORMANCE_CI")
	if list == "" {
		t.Skip("CONFORMANCE_CI is empty: make sets it")
	}
	covered := sets.New[features.FeatureName]()
	for name := range strings.SplitSeq(list, "|") {
		i := slices.IndexFunc(tests.ConformanceTests, func(test conformanceTest) bool { return test.ShortName == name })
		if i < 0 {
			t.Errorf("the suite has no test %s", name)
			continue
		}
		covered.Insert(tests.ConformanceTests[i].Features...)
	}
	for _, kind := range []features.FeatureName{
		features.SupportGateway, features.SupportHTTPRoute, features.SupportGRPCRoute, features.SupportTLSRoute, features.SupportTCPRoute,
		features.SupportUDPRoute, features.SupportListenerSet, features.SupportBackendTLSPolicy, features.SupportReferenceGrant,
	} {
		if !covered.Has(kind) {
			t.Errorf("no test of the list needs %s", kind)
		}
	}
}

// What the committed lists name can be looked up in the suite.
func TestBaselinesNameTestsOfTheSuite(t *testing.T) {
	for _, channel := range []string{"standard", "experimental"} {
		names, err := readBaseline("testdata/" + channel + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSorted(names) || channel == "experimental" && len(names) == 0 {
			t.Errorf("%s has %d tests, sorted: %v", channel, len(names), slices.IsSorted(names))
		}
		for _, name := range names {
			if !slices.ContainsFunc(tests.ConformanceTests, func(test conformanceTest) bool { return test.ShortName == name }) {
				t.Errorf("%s: the suite has no test %s", channel, name)
			}
		}
	}
}
