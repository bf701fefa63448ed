// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import gwv1 "sigs.k8s.io/gateway-api/apis/v1"

func buildClass(src *gwv1.GatewayClass) *Class {
	c := &Class{Source: src}
	if src.Spec.ParametersRef != nil {
		c.Problems = append(c.Problems, classParametersUnsupported())
	}
	c.Valid = len(c.Problems) == 0
	return c
}
