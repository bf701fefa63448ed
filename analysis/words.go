// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"headgate.dev/headgate/analysis/sequential"
)

// ofRequests is a share with its counts: "0.42% (4 of 950)".
func ofRequests(c sequential.Counts) string {
	if c.N <= 0 {
		return "0 of 0"
	}
	return fmt.Sprintf("%s (%s of %s)", percent(c.X/c.N), count(c.X), count(c.N))
}

// percent is a share in percent with three digits: "0.105%", "12.5%", "100%".
func percent(share float64) string { return number(100*share) + "%" }

// number has at most three significant digits, and all of those before the point.
func number(v float64) string {
	if a := math.Abs(v); a >= 1000 && a < 1e15 {
		return strconv.FormatFloat(math.Round(v), 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func count(n float64) string { return strconv.FormatFloat(math.Round(n), 'f', -1, 64) }

// seconds is a time with the unit people would use: "0.5ms", "250ms", "1.5s", "12s", "4m".
func seconds(s float64) string {
	switch {
	case math.IsInf(s, 1):
		return "the largest bucket"
	case s < 1:
		return trimmed(s*1000) + "ms"
	case s < 120:
		return trimmed(s) + "s"
	default:
		return trimmed(s/60) + "m"
	}
}

// waited is a time that goes on: whole minutes once it is long, so that a sentence
// about it is not news with every measurement.
func waited(s float64) string {
	if s < 120 {
		return seconds(s)
	}
	return strconv.Itoa(int(s/60)) + "m"
}

func trimmed(v float64) string {
	digits := 0
	if v < 100 {
		digits = 1
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	return strings.TrimSuffix(text, ".0")
}
