// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"headgate.dev/headgate/dataplane/xds"
)

// Update is like Publish for a configuration that differs from the one before as d says: what is
// not in d is not looked at. It gives false, and does nothing, where the whole has to be published:
// before the first Publish, and while there is something that proxies or Envoy's schema refuse.
func (s *Server) Update(d xds.Delta) (version uint64, ok bool) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	s.mu.Lock()
	present, held := s.targets[d.Gateway], len(s.heldBack[d.Gateway].refused)
	s.mu.Unlock()
	if present == nil || held > 0 || len(s.isolations[d.Gateway]) > 0 {
		return 0, false
	}
	var messages [kinds]map[string]proto.Message
	messages[kindRoute], messages[kindCluster], messages[kindRuntime] = d.Routes, d.Clusters, d.Runtimes
	for _, of := range messages {
		for _, m := range of {
			if m != nil && validate(m) != nil {
				return 0, false
			}
		}
	}
	next := &target{version: present.version + 1, resources: present.resources}
	var changed [kinds][]string
	differs := false
	for k := range messages {
		changes := changesOf(kind(k), present, messages[k], next.version)
		next.resources[k] = present.resources[k].with(changes)
		changed[k] = slices.Sorted(maps.Keys(changes))
		differs = differs || len(changed[k]) > 0
	}
	if !differs {
		return present.version, true
	}
	s.bring(d.Gateway, next, changed)
	return next.version, true
}

// changesOf gives the resources that differ from the present ones; nil for one that goes.
func changesOf(k kind, present *target, messages map[string]proto.Message, version uint64) map[string]*resource {
	changes := make(map[string]*resource, len(messages))
	for name, m := range messages {
		was := present.resources[k].get(name)
		if m == nil {
			if was != nil {
				changes[name] = nil
			}
			continue
		}
		if is := newResource(k, name, m, version); was == nil || was.version != is.version {
			changes[name] = is
		}
	}
	return changes
}
