// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollback

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestNeed(t *testing.T) {
	for _, tt := range []struct {
		name            string
		failing, weight float64
		want            float64
	}{
		// A bad answer at 20 % is worth at most ln((1.25·0.2 + 0.8) / (1.25·0.2)) nats.
		{"a total outage", 1, .2, math.Log(1000) / math.Log(4.2)},
		{"a total outage at 5 %", 1, .05, math.Log(1000) / math.Log(1.0125/.0625)},
		// Less than five and twenty times that: what is tolerable costs a little.
		{"a fifth", .2, .2, 5 * math.Log(1000) / math.Log(4.2)},
		{"a twentieth", .05, .2, 20 * math.Log(1000) / math.Log(4.2)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Need(tt.failing, tt.weight); got < tt.want*.999 || got > tt.want*1.1 {
				t.Errorf("%.2f requests, want %.2f and at most a tenth more", got, tt.want)
			}
		})
	}
}

func TestTheTable(t *testing.T) {
	o := Options{Weight: 20, Rate: 100}
	var out strings.Builder
	err := Print(&out, o, []Round{
		{Failing: 1, Away: time.Second, Bad: 90, Acknowledged: 2 * time.Millisecond},
		{Failing: 1, Away: 3 * time.Second, Bad: 300, Acknowledged: 4 * time.Millisecond, Blameless: 7},
		{Failing: .2, Away: time.Second, Bad: 20, Acknowledged: 3 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"100 % 2 3.00 3.00 300 300 5 0.05 1.06 1 3.60 2",
		"20 % 1 1.00 1.00 20 20 24 0.24 1.31 1 3.60 1",
		"p50 3.0 ms, p99 4.0 ms, of 3.",
		"no version caused: 7.",
	} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), want) {
			t.Errorf("want %q in\n%s", want, out.String())
		}
	}
}
