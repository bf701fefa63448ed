// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1beta1 is the API of Headgate: the resources Canary and ProxyConfig, and every label,
// annotation, condition type and reason a user can see.
//
// +kubebuilder:object:generate=true
// +groupName=headgate.dev
package v1beta1
