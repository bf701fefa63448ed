// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ofRequests is a share with its counts: "0.42% (4 of 950)".
func ofRequests(s Sample) string {
	if s.Requests <= 0 {
		return "0 of 0"
	}
	return fmt.Sprintf("%s (%s of %s)", percent(s.Bad/s.Requests), count(s.Bad), count(s.Requests))
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

// quantileName is "p99" for 0.99 and "p99.9" for 0.999.
func quantileName(q float64) string { return "p" + strconv.FormatFloat(100*q, 'g', 6, 64) }

// quantileWords is the bucket of a quantile: "100ms-119ms".
func quantileWords(s Sample, q float64) string {
	lo, hi, ok := s.quantile(q)
	switch {
	case !ok:
		return ""
	case math.IsInf(hi, 1):
		return "over " + seconds(lo)
	default:
		return seconds(lo) + "-" + seconds(hi)
	}
}

// boundWords is a limit and the bucket bound that stands for it.
func boundWords(limit, bound float64) string {
	switch {
	case math.IsInf(bound, 1):
		return seconds(limit) + ", beyond the largest bucket"
	case bound == limit:
		return seconds(limit)
	default:
		return fmt.Sprintf("%s, counted at the bucket bound %s", seconds(limit), seconds(bound))
	}
}

// moreTime is how long the missing requests will take at the rate so far.
func moreTime(missing, seen, inSeconds float64) string {
	if seen <= 0 || inSeconds <= 0 {
		return ""
	}
	return fmt.Sprintf("; about %s more at the present rate", seconds(math.Ceil(missing*inSeconds/seen)))
}
