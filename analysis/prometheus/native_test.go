// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"headgate.dev/headgate/analysis/sequential"
)

// exponential is a native histogram of a schema, as the API shows it: the buckets that are not empty.
func exponential(schema int, at int64, values ...float64) model.SampleHistogramPair {
	perOctave := math.Exp2(float64(schema))
	counts := map[int]float64{}
	zero := 0.0
	const threshold = 2.938735877055719e-39
	for _, v := range values {
		if v <= threshold {
			zero++
			continue
		}
		counts[int(math.Ceil(math.Log2(v)*perOctave))]++
	}
	h := &model.SampleHistogram{Count: model.FloatString(len(values))}
	if zero > 0 {
		h.Buckets = append(h.Buckets, &model.HistogramBucket{Boundaries: 3, Lower: -threshold, Upper: threshold, Count: model.FloatString(zero)})
	}
	for i, n := range counts {
		h.Buckets = append(h.Buckets, &model.HistogramBucket{
			Lower: model.FloatString(math.Exp2(float64(i-1) / perOctave)), Upper: model.FloatString(math.Exp2(float64(i) / perOctave)), Count: model.FloatString(n),
		})
	}
	return model.SampleHistogramPair{Timestamp: model.TimeFromUnix(origin.Unix() + at), Histogram: h}
}

// custom is a histogram with bounds of its own, schema -53.
func custom(at int64, bounds []float64, counts ...float64) model.SampleHistogramPair {
	h := &model.SampleHistogram{}
	for i, n := range counts {
		h.Count += model.FloatString(n)
		lower, upper := math.Inf(-1), math.Inf(1)
		if i > 0 {
			lower = bounds[i-1]
		}
		if i < len(bounds) {
			upper = bounds[i]
		}
		if n > 0 {
			h.Buckets = append(h.Buckets, &model.HistogramBucket{Lower: model.FloatString(lower), Upper: model.FloatString(upper), Count: model.FloatString(n)})
		}
	}
	return model.SampleHistogramPair{Timestamp: model.TimeFromUnix(origin.Unix() + at), Histogram: h}
}

func pod(name string, histograms ...model.SampleHistogramPair) *model.SampleStream {
	return &model.SampleStream{Metric: model.Metric{"pod": model.LabelValue(name), "instance": model.LabelValue(name)}, Histograms: histograms}
}

func seconds(from, to int64) (time.Time, time.Time) {
	return origin.Add(time.Duration(from) * time.Second), origin.Add(time.Duration(to) * time.Second)
}

// atMost is how many requests took at most le: le must be a bound.
func atMost(t *testing.T, buckets []sequential.Bucket, le float64) float64 {
	t.Helper()
	for _, b := range buckets {
		if b.Le == le || !math.IsInf(le, 1) && math.Abs(b.Le-le) <= 1e-9*le {
			return b.Count
		}
	}
	t.Fatalf("%v is not a bound", le)
	return 0
}

// TestNativeHistogramsCountExactly compares what is read from histograms of every schema
// with the requests that made them, at every bound.
func TestNativeHistogramsCountExactly(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		schemas := [2]int{r.IntN(12) - 3, r.IntN(12) - 3}
		var values [2][]float64
		for arm := range values {
			for range 50 {
				values[arm] = append(values[arm], math.Exp(r.NormFloat64()*2-3))
			}
		}
		values[1] = append(values[1], 0)
		var arms [2]model.Matrix
		for arm, v := range values {
			arms[arm] = model.Matrix{pod("p", exponential(schemas[arm], 0, v[:20]...), exponential(schemas[arm], 5, v...))}
		}
		grid := gridOf(arms[0], arms[1])
		if len(grid) == 0 {
			t.Fatalf("schemas %v: no common bounds", schemas)
		}
		from, to := seconds(0, 5)
		for arm, matrix := range arms {
			got := native(matrix, grid, from, to)
			if want := float64(len(values[arm]) - 20); got.Requests != want || len(got.Buckets) != len(grid)+1 {
				t.Fatalf("schemas %v: %v requests of %v, %d buckets of %d", schemas, got.Requests, want, len(got.Buckets), len(grid)+1)
			}
			for _, b := range got.Buckets {
				want := 0.0
				for _, v := range values[arm][20:] {
					if v <= b.Le {
						want++
					}
				}
				if b.Count != want {
					t.Fatalf("schemas %v, arm %d: %v requests took at most %v, got %v", schemas, arm, want, b.Le, b.Count)
				}
			}
		}
	}
}

func TestNativeHistogramsThatAreResetOrChangeTheirSchema(t *testing.T) {
	fast, slow := []float64{0.01, 0.01, 0.02}, []float64{0.01, 0.01, 0.02, 3}
	tests := []struct {
		name         string
		matrix       model.Matrix
		from, to     int64
		all, quickly float64 // requests, and those of at most a quarter of a second
	}{
		{"it grows", model.Matrix{pod("a", exponential(3, 0, fast...), exponential(3, 5, slow...))}, 0, 5, 1, 0},
		{"it is reset", model.Matrix{pod("a", exponential(3, 0, slow...), exponential(3, 5, 0.01, 0.02))}, 0, 5, 2, 2},
		{"it is reset and grows past its old count", model.Matrix{pod("a", exponential(3, 0, 0.01), exponential(3, 5, slow[1:]...))}, 0, 5, 2, 1},
		{"its buckets fall while its count grows", model.Matrix{pod("a", exponential(3, 0, 0.01, 0.01), exponential(3, 5, 3, 3, 3))}, 0, 5, 3, 0},
		{"its resolution is halved", model.Matrix{pod("a", exponential(3, 0, fast...), exponential(1, 5, slow...))}, 0, 5, 1, 0},
		{"it appears together with its process", model.Matrix{pod("a", exponential(3, 3, slow...))}, 0, 5, 0, 0},
		{"an interval without a sample", model.Matrix{pod("a", exponential(3, 0, fast...), exponential(3, 9, slow...))}, 0, 5, 0, 0},
		{"two pods", model.Matrix{
			pod("a", exponential(3, 0, fast...), exponential(3, 5, slow...)), pod("b", exponential(2, 0), exponential(2, 5, 0.01)),
		}, 0, 5, 2, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			from, to := seconds(tt.from, tt.to)
			got := native(tt.matrix, gridOf(tt.matrix), from, to)
			if got.Requests != tt.all || atMost(t, got.Buckets, 0.25) != tt.quickly {
				t.Errorf("%v requests, %v of them quickly; want %v and %v", got.Requests, atMost(t, got.Buckets, 0.25), tt.all, tt.quickly)
			}
		})
	}
}

func TestHistogramsWithBoundsOfTheirOwn(t *testing.T) {
	bounds := []float64{0.1, 0.3, 1.2}
	matrix := model.Matrix{pod("a", custom(0, bounds, 5, 1, 0, 0), custom(5, bounds, 8, 3, 1, 2))}
	from, to := seconds(0, 5)
	got := native(matrix, gridOf(matrix), from, to)
	for le, want := range map[float64]float64{0.1: 3, 0.3: 5, 1.2: 6, math.Inf(1): 8} {
		if n := atMost(t, got.Buckets, le); n != want {
			t.Errorf("%v took at most %v, want %v", n, le, want)
		}
	}
	if len(got.Buckets) != 4 {
		t.Errorf("bounds inside of a bucket: %v", got.Buckets)
	}
}
