// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package trial

import "headgate.dev/headgate/analysis/sequential"

// Default is what a release is held against that asks for nothing else: one false
// rollback in a thousand releases. Errors own half of that, latency three tenths, missing
// answers a tenth; the last tenth is left for metrics that are not counted in requests.
func Default() Config {
	return Config{
		Alpha: 0.001, Beta: 0.05, Ticks: 3,
		Metrics: []Metric{
			{Name: "errors", Kind: Errors, Share: 0.5, Tolerance: sequential.DefaultRegression().Tolerance, Enough: sequential.DefaultAcceptance().Tolerance},
			{Name: "latency", Kind: Latency, Share: 0.3, Enough: sequential.DefaultAcceptance().Tolerance, Shift: sequential.DefaultShift()},
			{Name: "answers", Kind: Answers, Share: 0.1},
		},
	}
}
