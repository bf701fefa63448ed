// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func buildClass(src *gwv1.GatewayClass, configs proxyConfigs, definitions map[string]*metav1.PartialObjectMetadata) *Class {
	c := &Class{Source: src}
	c.Proxy, c.Problems = configs.ofClass(src.Spec.ParametersRef)
	c.Valid = len(c.Problems) == 0
	// Definitions of another version are served as well as they can be.
	var problems []Problem
	c.Experimental, problems = definitionsOf(definitions)
	c.Problems = append(c.Problems, problems...)
	c.VersionKnown = len(definitions) > 0
	return c
}
