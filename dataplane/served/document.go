// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package served

import (
	"encoding/json"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Document gives the configuration as an object that can be printed as YAML or
// JSON, with Envoy's own field names.
func (c *Config) Document() (map[string]any, error) {
	out := map[string]any{}
	var err error
	put := func(section string, m proto.Message) {
		if err != nil {
			return
		}
		var plain any
		if plain, err = toPlain(m); err == nil {
			list, _ := out[section].([]any)
			out[section] = append(list, plain)
		}
	}
	for _, l := range c.Listeners {
		put("listeners", l)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Tables)) {
		for _, table := range c.Tables[name] {
			put("routes", table)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Clusters)) {
		put("clusters", c.Clusters[name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.Endpoints)) {
		put("endpoints", c.Endpoints[name])
	}
	if len(c.Runtime) > 0 {
		out["runtime"] = c.Runtime
	}
	return out, err
}

func toPlain(m proto.Message) (any, error) {
	data, err := protojson.MarshalOptions{UseProtoNames: true, Resolver: lenient{}}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var plain any
	return plain, json.Unmarshal(data, &plain)
}

// canonical is a message as text that is equal for equal messages.
func canonical(m proto.Message) string {
	plain, err := toPlain(m)
	if err != nil {
		return err.Error()
	}
	text, err := json.Marshal(plain)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
