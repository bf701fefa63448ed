// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"headgate.dev/headgate/dataplane/graph"
)

// headerMutation is Envoy's form of a header modifier: it removes first, then adds in order.
type headerMutation struct {
	add    []*corev3.HeaderValueOption
	remove []string
}

// headerOptions gives the Envoy form of modifiers that apply one after the other; nil
// ones do nothing. What a later step removes, an earlier one must not add, because
// Envoy removes first. Pseudo headers and Host are skipped: Envoy refuses a whole
// route table that touches them. So is what frames a message, which Envoy would pass on.
func headerOptions(modifiers ...*graph.HeaderModifier) headerMutation {
	var out headerMutation
	for _, m := range modifiers {
		if m == nil {
			continue
		}
		for _, h := range m.Set {
			out.put(h, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
		}
		for _, h := range m.Add {
			out.put(h, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD)
		}
		for _, name := range m.Remove {
			out.drop(name)
		}
	}
	return out
}

func (m *headerMutation) put(h graph.Header, action corev3.HeaderValueOption_HeaderAppendAction) {
	if reserved(h.Name) {
		return
	}
	m.add = append(m.add, &corev3.HeaderValueOption{
		// A percent sign begins a command in Envoy's values; doubled it is itself.
		Header:         &corev3.HeaderValue{Key: h.Name, Value: strings.ReplaceAll(h.Value, "%", "%%")},
		AppendAction:   action,
		KeepEmptyValue: true,
	})
}

func (m *headerMutation) drop(name string) {
	if reserved(name) {
		return
	}
	m.add = slices.DeleteFunc(m.add, func(o *corev3.HeaderValueOption) bool {
		return strings.EqualFold(o.Header.Key, name)
	})
	if !slices.Contains(m.remove, name) {
		m.remove = append(m.remove, name)
	}
}

func reserved(name string) bool {
	return name == "" || strings.HasPrefix(name, ":") || strings.EqualFold(name, "host") || graph.FramesMessage(name)
}
