// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

// Problem is one thing that is wrong with an object, as its owner will read it.
// Each problem has one constructor in this package: grep finds its one meaning.
type Problem struct {
	// Condition is the Gateway API condition type it makes False (or True, for
	// negative conditions such as Conflicted).
	Condition string
	// Reason is the Gateway API reason in CamelCase.
	Reason string
	// Message says which field is wrong and what to write instead.
	Message string
}
