// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoystats

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// The fields that are read of envoy.service.metrics.v3.StreamMetricsMessage and of what it
// holds, io.prometheus.client.MetricFamily. They are read in place: a proxy with thousands
// of clusters sends megabytes a second, of which a release is a few lines.
const (
	messageFamily = 2

	familyName   = 1
	familyMetric = 4

	metricGauge     = 2
	metricCounter   = 3
	metricTime      = 6
	metricHistogram = 7

	counterValue = 1

	histogramCount  = 1
	histogramBucket = 3

	bucketCount = 1
	bucketBound = 2
)

const (
	// largest is more than any count of one flush can be, and small enough that sums of
	// such counts stay exact.
	largest = 1 << 40
	// maxBuckets bounds a histogram; Headgate's proxies send 55.
	maxBuckets = 256
	// maxVariants bounds in how many clusters an upstream is seen: one for each protocol.
	maxVariants = 16
)

// errBroken is what cannot be read at all.
var errBroken = errors.New("the message is not one of Envoy's metrics service")

// fields calls visit for each field of a message; value is the content of a field of
// bytes, number that of a varint or of 64 bits.
func fields(message []byte, visit func(field protowire.Number, value []byte, number uint64) error) error {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errBroken
		}
		message = message[n:]
		var value []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(message)
		case protowire.Fixed64Type:
			number, n = protowire.ConsumeFixed64(message)
		default:
			n = protowire.ConsumeFieldValue(field, kind, message)
		}
		if n < 0 {
			return errBroken
		}
		message = message[n:]
		if err := visit(field, value, number); err != nil {
			return err
		}
	}
	return nil
}

// parse adds the counts of one flush to the clusters that are wanted. The flush is used
// whole or, after an error, not at all.
func (f *flush) parse(message []byte, wanted map[string]*upstream) error {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errBroken
		}
		message = message[n:]
		if field != messageFamily || kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(field, kind, message); n < 0 {
				return errBroken
			}
			message = message[n:]
			continue
		}
		family, n := protowire.ConsumeBytes(message)
		if n < 0 {
			return errBroken
		}
		message = message[n:]
		if f.at == 0 {
			// All metrics of a flush have its time.
			if err := f.readTime(family); err != nil {
				return err
			}
			if len(wanted) == 0 {
				return nil
			}
		}
		if err := f.parseFamily(family, wanted); err != nil {
			return err
		}
	}
	return nil
}

func (f *flush) readTime(family []byte) error {
	return fields(family, func(field protowire.Number, metric []byte, _ uint64) error {
		if field != familyMetric {
			return nil
		}
		return fields(metric, func(field protowire.Number, _ []byte, number uint64) error {
			if field == metricTime {
				f.at = int64(number)
			}
			return nil
		})
	})
}

// nameOf is the name of a family. Envoy writes it first.
func nameOf(family []byte) ([]byte, error) {
	if field, kind, n := protowire.ConsumeTag(family); n > 0 && field == familyName && kind == protowire.BytesType {
		if name, n := protowire.ConsumeBytes(family[n:]); n > 0 {
			return name, nil
		}
	}
	var name []byte
	err := fields(family, func(field protowire.Number, value []byte, _ uint64) error {
		if field == familyName {
			name = value
		}
		return nil
	})
	return name, err
}

func (f *flush) parseFamily(family []byte, wanted map[string]*upstream) error {
	name, err := nameOf(family)
	if err != nil {
		return err
	}
	name, ok := bytes.CutPrefix(name, []byte("cluster."))
	if !ok {
		return nil
	}
	clusterName, stat, ok := bytes.Cut(name, []byte("."))
	if !ok {
		return nil
	}
	up := wanted[string(upstreamOf(clusterName))]
	if up == nil {
		return nil
	}
	which, ok := slotOf(stat)
	if !ok {
		return nil
	}
	c, err := f.cluster(up, clusterName)
	if c == nil || err != nil {
		return err
	}
	if c.seen&(1<<which) != 0 {
		return fmt.Errorf("%s of cluster %s stands in it twice", stat, clusterName)
	}
	c.seen |= 1 << which
	metrics := 0
	err = fields(family, func(field protowire.Number, metric []byte, _ uint64) error {
		if field != familyMetric {
			return nil
		}
		if metrics++; metrics > 1 {
			return fmt.Errorf("%s of cluster %s stands in it twice", stat, clusterName)
		}
		return f.parseMetric(metric, c, which)
	})
	if err != nil && !errors.Is(err, errBroken) {
		return fmt.Errorf("%s of cluster %s: %w", stat, clusterName, err)
	}
	return err
}

func (f *flush) parseMetric(metric []byte, c *cluster, which slot) error {
	at, known := f.at, false
	err := fields(metric, func(field protowire.Number, value []byte, number uint64) error {
		switch {
		case field == metricTime:
			at = int64(number)
		case field == metricCounter && which < slotTime:
			known = true
			return fields(value, func(field protowire.Number, _ []byte, number uint64) error {
				if field == counterValue {
					c.counts[which] = math.Float64frombits(number)
				}
				return nil
			})
		case field == metricHistogram && which >= slotTime:
			known = true
			return c.times[which-slotTime].parse(value)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case !known:
		return errors.New("it is of another type")
	case at != f.at:
		return errors.New("it is of another flush")
	case which < slotTime && !plausible(c.counts[which]):
		return fmt.Errorf("it rose by %v", c.counts[which])
	}
	return nil
}

// plausible tells whether a number can be a count of one flush.
func plausible(count float64) bool {
	return count >= 0 && count <= largest
}

// histogram is the requests of one flush by how long they took: counts[i] of them at most
// bounds[i] milliseconds, total in all.
type histogram struct {
	bounds, counts []float64
	total          float64
}

func (h *histogram) clear() {
	h.bounds, h.counts, h.total = h.bounds[:0], h.counts[:0], 0
}

func (h *histogram) parse(message []byte) error {
	err := fields(message, func(field protowire.Number, value []byte, number uint64) error {
		switch field {
		case histogramCount:
			h.total = float64(number)
		case histogramBucket:
			var count, bound float64
			err := fields(value, func(field protowire.Number, _ []byte, number uint64) error {
				switch field {
				case bucketCount:
					count = float64(number)
				case bucketBound:
					bound = math.Float64frombits(number)
				}
				return nil
			})
			if err != nil {
				return err
			}
			if math.IsInf(bound, 1) { // which is what total stands for
				return nil
			}
			if len(h.bounds) == maxBuckets {
				return fmt.Errorf("it has more than %d buckets", maxBuckets)
			}
			h.bounds, h.counts = append(h.bounds, bound), append(h.counts, count)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return h.check()
}

func (h *histogram) check() error {
	if !plausible(h.total) {
		return fmt.Errorf("it counts %v requests", h.total)
	}
	before, least := 0.0, math.Inf(-1)
	for i, count := range h.counts {
		if !(h.bounds[i] > least) {
			return errors.New("its bounds do not ascend")
		}
		if count < before || count > h.total {
			return errors.New("its counts do not add up")
		}
		before, least = count, h.bounds[i]
	}
	return nil
}
