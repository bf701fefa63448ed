// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"hash/maphash"
	"iter"
	"maps"

	"google.golang.org/protobuf/proto"
)

// shelfParts is how many maps a shelf has, so that one of them is small for thousands of names.
const shelfParts = 128

// shelfSeed makes the parts of names differ from process to process, so that nobody can choose
// names that all fall into one.
var shelfSeed = maphash.MakeSeed()

// shelf is a map from names to resources that is never changed once others have it: with gives
// another one that shares nearly all with it. So a change among thousands of resources
// costs no copy of all names. The zero shelf is empty.
type shelf struct {
	parts *[shelfParts]map[string]*resource
	size  int
}

func partOf(name string) int { return int(maphash.String(shelfSeed, name) % shelfParts) }

// get gives a resource, or nil.
func (s shelf) get(name string) *resource {
	if s.parts == nil {
		return nil
	}
	return s.parts[partOf(name)][name]
}

// put changes the shelf itself. Only who has just made it may do that.
func (s *shelf) put(r *resource) {
	if s.parts == nil {
		s.parts = &[shelfParts]map[string]*resource{}
	}
	part := &s.parts[partOf(r.name)]
	if *part == nil {
		*part = map[string]*resource{}
	}
	if (*part)[r.name] == nil {
		s.size++
	}
	(*part)[r.name] = r
}

// with gives the shelf with some resources in place; nil takes one out.
func (s shelf) with(changes map[string]*resource) shelf {
	if len(changes) == 0 {
		return s
	}
	next := &[shelfParts]map[string]*resource{}
	if s.parts != nil {
		*next = *s.parts
	}
	own, size := [shelfParts]bool{}, s.size
	for name, r := range changes {
		i := partOf(name)
		if !own[i] {
			own[i] = true
			if next[i] = maps.Clone(next[i]); next[i] == nil {
				next[i] = map[string]*resource{}
			}
		}
		size -= len(next[i])
		if r == nil {
			delete(next[i], name)
		} else {
			next[i][name] = r
		}
		size += len(next[i])
	}
	return shelf{next, size}
}

// all gives every resource by its name, in no order.
func (s shelf) all() iter.Seq2[string, *resource] {
	return func(yield func(string, *resource) bool) {
		if s.parts == nil {
			return
		}
		for _, part := range s.parts {
			for name, r := range part {
				if !yield(name, r) {
					return
				}
			}
		}
	}
}

// names gives every name, in no order.
func (s shelf) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range s.all() {
			if !yield(name) {
				return
			}
		}
	}
}

func (s shelf) len() int { return s.size }

// sources gives the messages that the resources were made from.
func (s shelf) sources() map[string]proto.Message {
	out := make(map[string]proto.Message, s.len())
	for name, r := range s.all() {
		out[name] = r.source
	}
	return out
}
