// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// Unit is what an Amount is counted in.
type Unit string

// The units of amounts.
const (
	UnitNone    Unit = ""
	UnitPercent Unit = "%"
	UnitSeconds Unit = "s"
)

var unitFactors = []struct {
	suffix string
	unit   Unit
	factor float64
}{
	// Longest suffix first: "ms" before "s" and "m".
	{"us", UnitSeconds, 1e-6},
	{"ms", UnitSeconds, 1e-3},
	{"s", UnitSeconds, 1},
	{"m", UnitSeconds, 60},
	{"%", UnitPercent, 1},
}

// Parse gives the number and its unit: "0.5%" is 0.5 percent, "300ms" is 0.3
// seconds, 10 is 10 without a unit.
func (a Amount) Parse() (float64, Unit, error) {
	if a.Type == intstr.Int {
		return float64(a.IntVal), UnitNone, nil
	}
	number, unit, factor := a.StrVal, UnitNone, 1.0
	for _, u := range unitFactors {
		if s, ok := strings.CutSuffix(a.StrVal, u.suffix); ok {
			number, unit, factor = s, u.unit, u.factor
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, UnitNone, fmt.Errorf("%q is not a number with an optional unit: write 10, \"0.5\", 0.5%%, 300ms or 1.5s", a.StrVal)
	}
	return v * factor, unit, nil
}

// String gives the amount as it was written.
func (a Amount) String() string { return (*intstr.IntOrString)(&a).String() }

// MarshalJSON writes a whole number or a string.
func (a Amount) MarshalJSON() ([]byte, error) { return intstr.IntOrString(a).MarshalJSON() }

// UnmarshalJSON reads a whole number or a string.
func (a *Amount) UnmarshalJSON(b []byte) error { return (*intstr.IntOrString)(a).UnmarshalJSON(b) }
