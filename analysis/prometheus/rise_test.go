// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/common/model"
)

var origin = time.Unix(1_800_000_000, 0)

// stream is a counter scraped each second from second first on; -1 is a missed scrape.
func stream(first int, labels string, values ...float64) *model.SampleStream {
	s := &model.SampleStream{Metric: model.Metric{}}
	var name, path, le, instance string
	if _, err := fmt.Sscan(labels, &name, &path, &le, &instance); err != nil {
		panic(err)
	}
	s.Metric[model.MetricNameLabel] = model.LabelValue(name)
	s.Metric["path"] = model.LabelValue(path)
	s.Metric[model.BucketLabel] = model.LabelValue(le)
	s.Metric["instance"] = model.LabelValue(instance)
	for i, v := range values {
		if v >= 0 {
			s.Values = append(s.Values, model.SamplePair{
				Timestamp: model.TimeFromUnix(origin.Unix() + int64(first+i)), Value: model.SampleValue(v),
			})
		}
	}
	return s
}

func TestRiseOf(t *testing.T) {
	const c = "rq shop/a/80 2 i1"
	sibling := stream(0, "rq shop/b/80 2 i1", 100, 100, 100, 100, 100, 100, 100, 100, 100, 100)
	tests := []struct {
		name     string
		matrix   model.Matrix
		from, to int
		want     float64
	}{
		{"from the last sample before to the last sample within", model.Matrix{stream(0, c, 1, 2, 4, 8, 16)}, 1, 3, 6},
		{"the last sample before may be older than From", model.Matrix{stream(0, c, 1, -1, -1, 8, 16)}, 2, 4, 15},
		{"samples after To do not count", model.Matrix{stream(0, c, 1, 2, 4, 8, 16)}, 0, 2, 3},
		{"a reset counts from zero", model.Matrix{stream(0, c, 100, 110, 5, 9)}, 0, 3, 19},
		{"a reset before From is none of ours", model.Matrix{stream(0, c, 100, 5, 9)}, 1, 2, 4},
		{"no sample in the interval", model.Matrix{stream(0, c, 100)}, 3, 5, 0},
		{
			"a counter that appears of a process that was scraped before began at zero",
			model.Matrix{stream(3, c, 7, 9), sibling},
			1, 4, 9,
		},
		{
			"a counter that appears together with its process has an unknown past",
			model.Matrix{stream(3, c, 1000, 1009)},
			1, 4, 9,
		},
		{
			"another process's past proves nothing",
			model.Matrix{stream(3, c, 1000, 1009), stream(0, "rq shop/b/80 2 i2", 1, 1, 1, 1, 1)},
			1, 4, 9,
		},
		{
			"one counter's reset is its neighbour's, even if that has grown past its old value",
			model.Matrix{stream(0, c, 3, 3, 10), stream(0, "rq shop/a/80 5 i1", 100, 100, 4)},
			0, 2, 10,
		},
		{
			"and even if it was away meanwhile",
			model.Matrix{stream(0, c, 3, -1, -1, 10), stream(0, "rq shop/a/80 5 i1", 100, 2, 4, 6)},
			0, 3, 10,
		},
		{"but not another histogram's", model.Matrix{stream(0, c, 3, 3, 10), stream(0, "rq shop/b/80 2 i1", 100, 100, 4)}, 0, 2, 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rises := riseOf(tt.matrix, origin.Add(time.Duration(tt.from)*time.Second), origin.Add(time.Duration(tt.to)*time.Second), buckets, beginnings(buckets, tt.matrix))
			if got := rises[0].by; got != tt.want {
				t.Errorf("rose by %v, want %v", got, tt.want)
			}
		})
	}
}

func TestCountersAreResetAlone(t *testing.T) {
	// An exporter carries the counters of two processes, of which one restarts.
	matrix := model.Matrix{stream(0, "rq a 0 i1", 3, 3, 10), stream(0, "rq b 0 i1", 100, 100, 4)}
	rises := riseOf(matrix, origin, origin.Add(2*time.Second), single, beginnings(single, matrix))
	if rises[0].by != 7 || rises[1].by != 4 {
		t.Errorf("rose by %v and %v, want 7 and 4", rises[0].by, rises[1].by)
	}
}

// TestIntervalsAddUp cuts random counters, with resets and missed scrapes, at
// random moments: the pieces add up to the whole, and to what was really counted.
func TestIntervalsAddUp(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		const length = 60
		var matrix model.Matrix
		truth := 0.0
		for k := range 3 {
			values, v := make([]float64, length), float64(r.IntN(1000))
			for i := range values {
				if i > 0 {
					if r.IntN(20) == 0 {
						v = 0
					} else if d := float64(r.IntN(5)); true {
						v += d
					}
				}
				values[i] = v
				if i > 0 && i < length-1 && r.IntN(5) == 0 {
					values[i] = -1
				}
			}
			matrix = append(matrix, stream(0, fmt.Sprintf("rq shop/a%d/80 2 i1", k), values...))
		}
		sum := func(from, to int) float64 {
			total := 0.0
			for _, x := range riseOf(matrix, origin.Add(time.Duration(from)*time.Second), origin.Add(time.Duration(to)*time.Second), buckets, beginnings(buckets, matrix)) {
				total += x.by
			}
			return total
		}
		truth = sum(0, length)
		pieces, at := 0.0, 0
		for at < length {
			next := min(at+1+r.IntN(12), length)
			pieces += sum(at, next)
			at = next
		}
		if pieces != truth {
			t.Fatalf("pieces %v, whole %v", pieces, truth)
		}
	}
}
