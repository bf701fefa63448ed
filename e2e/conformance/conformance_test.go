// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package conformance runs the unmodified conformance suite of the Gateway API
// against Headgate's GatewayClass. It is a module of its own, so that nobody who
// builds Headgate needs the suite.
package conformance

import (
	"slices"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	suite "sigs.k8s.io/gateway-api/conformance"
	conformance "sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// TestConformance takes the suite's own flags. The features are the ones that the
// GatewayClass publishes: the suite reads them from its status, so that nothing here
// can claim more or less. Of the profiles those run whose kind of route is among them.
func TestConformance(t *testing.T) {
	options := suite.DefaultOptions(t)
	class := &gwv1.GatewayClass{}
	if err := options.Client.Get(t.Context(), client.ObjectKey{Name: options.GatewayClassName}, class); err != nil {
		t.Fatalf("reading GatewayClass %s: %v", options.GatewayClassName, err)
	}
	if len(options.ConformanceProfiles) == 0 {
		options.ConformanceProfiles = profiles(class)
	}
	suite.RunConformanceWithOptions(t, options)
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
