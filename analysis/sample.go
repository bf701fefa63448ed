// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import "headgate.dev/headgate/analysis/sequential"

// Plus adds the counts of two samples of one arm. Histograms are added on the
// bounds both have; a sample without buckets adds nothing to them.
func (s Sample) Plus(o Sample) Sample {
	s.Requests += o.Requests
	s.Bad += o.Bad
	s.Present = s.Present || o.Present
	s.Buckets = sequential.AddHistograms(s.Buckets, o.Buckets)
	return s
}
