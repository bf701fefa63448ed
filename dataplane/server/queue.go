// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import "slices"

// queue is a set of names that remembers the order in which they came.
type queue struct {
	order []string
	has   map[string]bool
}

func newQueue() queue { return queue{has: map[string]bool{}} }

func (q *queue) push(name string) {
	if !q.has[name] {
		q.has[name] = true
		q.order = append(q.order, name)
	}
}

// drop takes a name out, wherever it stands.
func (q *queue) drop(name string) {
	if !q.has[name] {
		return
	}
	delete(q.has, name)
	if q.order[0] == name {
		q.order = q.order[1:]
		return
	}
	if i := slices.Index(q.order, name); i >= 0 {
		q.order = slices.Delete(q.order, i, i+1)
	}
}

// names gives the names in order. The slice is the caller's.
func (q *queue) names() []string { return slices.Clone(q.order) }
