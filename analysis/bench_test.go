// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis_test

import (
	"encoding/json"
	"testing"
	"time"

	"headgate.dev/headgate/analysis"
)

// BenchmarkSecond is what one second of one release costs: a reading is added, and judged.
func BenchmarkSecond(b *testing.B) {
	p := analysis.PlanFor(nil, subject(5))
	e := learned(p)
	r := inPods(second(95, 1, 5, 0, 0.05))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		to := at(time.Duration(i+20) * time.Second)
		r.Newest = to
		e.Read(p, r, to)
		analysis.Judge(p, e, to)
	}
	data, err := json.Marshal(e)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(data)), "stored-bytes")
}
