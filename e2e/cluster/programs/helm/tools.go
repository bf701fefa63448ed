// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package helm pins the Helm that installs and lints the chart.
package helm

import _ "helm.sh/helm/v3/cmd/helm"
