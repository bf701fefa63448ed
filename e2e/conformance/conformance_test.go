// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package conformance runs the unmodified conformance suite of the Gateway API
// against Headgate's GatewayClass, and compares what passed with what passed before. It is a
// module of its own, so that nobody who builds Headgate needs the suite.
package conformance

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	suite "sigs.k8s.io/gateway-api/conformance"
	conformance "sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

type conformanceTest = conformance.ConformanceTest

// Flags beside the suite's own.
var (
	baselineFile   = flag.String("baseline", "", "file of the tests that passed before: the run fails when it loses one")
	baselineUpdate = flag.Bool("baseline-update", false, "add the tests that pass to the file of -baseline")
)

// TestConformance takes the suite's own flags. The features are the ones that the
// GatewayClass publishes: the suite reads them from its status, so that nothing here
// can claim more or less. Of the profiles those run whose kind of route is among them, and
// beside them every test that belongs to no profile.
func TestConformance(t *testing.T) {
	options := suite.DefaultOptions(t)
	class := &gwv1.GatewayClass{}
	if err := options.Client.Get(t.Context(), client.ObjectKey{Name: options.GatewayClassName}, class); err != nil {
		t.Fatalf("reading GatewayClass %s: %v", options.GatewayClassName, err)
	}
	if len(options.ConformanceProfiles) == 0 {
		options.ConformanceProfiles = profiles(class)
	}
	seen := &outcomes{passed: sets.New[string]()}
	options.Hook = func(t *testing.T, test conformance.ConformanceTest, _ *conformance.ConformanceTestSuite) {
		seen.add(test.ShortName, t.Failed(), t.Skipped())
	}
	// The last cleanup of all: by then the parallel tests are through as well.
	t.Cleanup(func() { compare(t, seen) })
	suite.RunConformanceWithOptions(t, options)
}

// compare fails the run when a test is lost that passed before.
func compare(t *testing.T, seen *outcomes) {
	t.Logf("%d tests passed, %d failed: %s", len(seen.passed), len(seen.failed), strings.Join(seen.failed, " "))
	if *baselineFile == "" {
		return
	}
	before, err := readBaseline(*baselineFile)
	if err != nil {
		t.Error(err)
		return
	}
	run, err := picked(flag.Lookup("test.run").Value.String())
	if err != nil {
		t.Error(err)
		return
	}
	if lost := before.lost(seen.passed, run); len(lost) > 0 {
		t.Errorf("%d tests that passed before did not pass now: %s", len(lost), strings.Join(lost, " "))
		return
	}
	if *baselineUpdate {
		if err := os.WriteFile(*baselineFile, before.with(seen.passed), 0o644); err != nil {
			t.Error(err)
		}
	}
}

func profiles(class *gwv1.GatewayClass) []conformance.ConformanceProfileName {
	var out []conformance.ConformanceProfileName
	for _, p := range []struct {
		kind features.FeatureName
		name conformance.ConformanceProfileName
	}{
		{features.SupportHTTPRoute, conformance.GatewayHTTPConformanceProfileName},
		{features.SupportGRPCRoute, conformance.GatewayGRPCConformanceProfileName},
		{features.SupportTLSRoute, conformance.GatewayTLSConformanceProfileName},
		{features.SupportTCPRoute, conformance.GatewayTCPConformanceProfileName},
		{features.SupportUDPRoute, conformance.GatewayUDPConformanceProfileName},
	} {
		if slices.ContainsFunc(class.Status.SupportedFeatures, func(f gwv1.SupportedFeature) bool { return string(f.Name) == string(p.kind) }) {
			out = append(out, p.name)
		}
	}
	return out
}
