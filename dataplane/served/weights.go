// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package served

import (
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// million is the denominator of all fractions that Headgate writes.
const million = 1_000_000

func unmarshalOptions() proto.UnmarshalOptions { return proto.UnmarshalOptions{Resolver: lenient{}} }

// backends gives the clusters of an action with the weights of this moment. Where
// runtime keys hold them, Envoy reads the key prefix.cluster, and takes the weight of the
// table where there is none.
func (c *Config) backends(action *routev3.RouteAction) []Backend {
	if name := action.GetCluster(); name != "" {
		return []Backend{{Cluster: name, Weight: 1, Total: 1}}
	}
	weighted := action.GetWeightedClusters()
	var out []Backend
	for _, w := range weighted.GetClusters() {
		b := Backend{Cluster: w.Name, Weight: uint64(w.Weight.GetValue())}
		if prefix := weighted.GetRuntimeKeyPrefix(); prefix != "" {
			if value, ok := c.Runtime[prefix+"."+w.Name].(float64); ok {
				b.Weight = uint64(value)
			}
		}
		out = append(out, b)
	}
	sumUp(out)
	return out
}

// runtimeValue reads a value as Envoy prints it: a number, or a fraction as a
// message in protobuf's debugging format. That begins with a mark against being parsed,
// because its blanks vary; its words do not.
func runtimeValue(text string) (any, bool) {
	text = strings.TrimSpace(text)
	if number, err := strconv.ParseFloat(text, 64); err == nil {
		return number, true
	}
	if end := strings.IndexAny(text, " \n\t"); strings.HasPrefix(text, "goo.gle/") && end > 0 {
		text = text[end:]
	}
	object := &structpb.Struct{}
	if err := prototext.Unmarshal([]byte(text), object); err != nil {
		return nil, false
	}
	return object.AsMap(), true
}

// partsOf reads a fraction {numerator, denominator} in parts of a million.
func partsOf(value map[string]any) (uint64, bool) {
	numerator, ok := value["numerator"].(float64)
	if !ok {
		return 0, false
	}
	denominator, _ := value["denominator"].(string)
	return percentParts(&typev3.FractionalPercent{
		Numerator:   uint32(numerator),
		Denominator: typev3.FractionalPercent_DenominatorType(typev3.FractionalPercent_DenominatorType_value[denominator]),
	}), true
}

func percentParts(f *typev3.FractionalPercent) uint64 {
	switch parts := uint64(f.GetNumerator()); f.GetDenominator() {
	case typev3.FractionalPercent_MILLION:
		return parts
	case typev3.FractionalPercent_TEN_THOUSAND:
		return parts * 100
	default:
		return parts * 10_000
	}
}
