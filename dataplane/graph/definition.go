// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/consts"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// supportedBundle is the version of the Gateway API's definitions that Headgate is made and
// tested for; its patch releases are the same.
const supportedBundle = consts.BundleVersion

// definitionsOf says what the cluster's definitions of the Gateway API (name → metadata) mean for a
// class: whether their fields are those of the experimental channel, and which of them are of a
// version that was not tested.
func definitionsOf(definitions map[string]*metav1.PartialObjectMetadata) (experimental bool, problems []Problem) {
	if d := definitions["gateways."+gwv1.GroupName]; d != nil {
		experimental = d.Annotations[consts.ChannelAnnotation] == features.FeatureChannelExperimental
	}
	var other []string
	for _, name := range slices.Sorted(maps.Keys(definitions)) {
		if version := definitions[name].GetAnnotations()[consts.BundleVersionAnnotation]; !sameMinor(version, supportedBundle) {
			if version == "" {
				version = "no version"
			}
			other = append(other, fmt.Sprintf("%s (%s)", name, version))
		}
	}
	if len(other) > 0 {
		problems = append(problems, definitionsUnsupported(other))
	}
	return experimental, problems
}

// sameMinor tells whether two versions such as v1.7.0 differ in nothing but the last part.
func sameMinor(a, b string) bool {
	minor := func(v string) string {
		core, _, _ := strings.Cut(v, "-")
		if i := strings.LastIndex(core, "."); i >= 0 {
			return core[:i]
		}
		return core
	}
	return a != "" && minor(a) == minor(b)
}

func definitionsUnsupported(other []string) Problem {
	return problem(gwv1.GatewayClassConditionStatusSupportedVersion, gwv1.GatewayClassReasonUnsupportedVersion,
		"Headgate supports the CRDs of Gateway API %s and does what it can with others: the cluster has %s",
		supportedBundle, shortened(other, ", "))
}
