// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"strconv"
	"time"
)

// Duration is a validated Gateway API duration (GEP-2257).
type Duration = time.Duration

// MatchType says how a string is compared.
type MatchType string

// The ways to compare a string.
const (
	MatchExact  MatchType = "Exact"
	MatchPrefix MatchType = "PathPrefix"
	MatchRegex  MatchType = "RegularExpression"
)

// Match is one match of a rule; its parts are and-ed. A GRPCRoute's method
// match is a Path here: /service/method.
type Match struct {
	// Path compares the path; MatchPrefix matches whole path elements.
	Path StringMatch
	// Method is empty for every method.
	Method string
	// Headers and Query are and-ed; header names are lower case.
	Headers []NamedMatch
	Query   []NamedMatch
}

// StringMatch compares one string.
type StringMatch struct {
	Type  MatchType
	Value string
}

// NamedMatch compares the value of a header or a query parameter.
type NamedMatch struct {
	Name string
	StringMatch
}

// Filters is what happens to a request on its way, from a rule or a backendRef.
type Filters struct {
	RequestHeaders, ResponseHeaders *HeaderModifier
	Redirect                        *Redirect
	Rewrite                         *Rewrite
	// CORS is of rules only.
	CORS *CORS
	// Auth is asked before the request goes on.
	Auth *ExternalAuth
	// Session is of backends only.
	Session *Session
}

// HeaderModifier sets, adds and removes headers, in this order of the API:
// set overwrites, add appends, remove deletes. Names are as written.
type HeaderModifier struct {
	Set, Add []Header
	Remove   []string
}

// Header is a name and a value.
type Header struct{ Name, Value string }

// Redirect answers the request with a Location. Nil parts keep the request's.
type Redirect struct {
	Scheme, Hostname *string
	// Port is what the API says; nil follows the rules of GEP-726 (the scheme's
	// well-known port, else the listener's).
	Port *int32
	Path *PathModifier
	// StatusCode is 301, 302, 303, 307 or 308.
	StatusCode int
}

// Rewrite changes what the backend sees.
type Rewrite struct {
	Hostname *string
	Path     *PathModifier
}

// PathModifier replaces the full path or the matched prefix.
type PathModifier struct {
	// Full is true for ReplaceFullPath, false for ReplacePrefixMatch.
	Full  bool
	Value string
}

func itoa(i int32) string { return strconv.Itoa(int(i)) }
