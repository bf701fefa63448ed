// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"slices"
	"strings"
)

// cutting are the operators whose value may be cut to a length.
var cutting = []string{"REQ", "RESP", "TRAILER", "QUERY_PARAM", "METADATA", "DYNAMIC_METADATA", "FILTER_STATE", "PATH"}

// choices are what an operator's argument may be, for each of its parts between colons.
var choices = map[string][][]string{
	"GRPC_STATUS":           {{"CAMEL_STRING", "SNAKE_STRING", "NUMBER"}},
	"PATH":                  {{"WQ", "NQ"}, {"ORIG", "PATH", "ORIG_OR_PATH"}},
	"REQUESTED_SERVER_NAME": {{"SNI_ONLY", "SNI_FIRST", "HOST_FIRST"}, {"ORIG", "HOST", "ORIG_OR_HOST"}},
}

var metadataKinds = []string{"DYNAMIC", "CLUSTER", "ROUTE", "UPSTREAM_HOST", "LISTENER", "VIRTUAL_HOST"}

// argumentProblem tells what Envoy would refuse of the argument of an operator that takes
// one, without its parentheses.
func argumentProblem(name, argument string) string {
	parts := strings.Split(argument, ":")
	switch name {
	case "REQ", "RESP", "TRAILER":
		names := strings.Split(argument, "?")
		if len(names) > 2 || slices.ContainsFunc(names, func(s string) bool { return !isToken(strings.TrimPrefix(s, ":")) }) {
			return fmt.Sprintf("%%%s(%s)%% does not name a header: write %%%[1]s(NAME)%%, or %%%[1]s(NAME?OTHER)%% for another one where that is missing", name, argument)
		}
	case "FILTER_STATE":
		plain := len(parts) == 1 || len(parts) == 2 && (parts[1] == "PLAIN" || parts[1] == "TYPED")
		if !plain && (len(parts) < 3 || parts[1] != "FIELD" || parts[2] == "") {
			return fmt.Sprintf("%%FILTER_STATE(%s)%% cannot be written: write %%FILTER_STATE(NAME:PLAIN)%%, TYPED in place of PLAIN, or FIELD:NAME", argument)
		}
	case "METADATA":
		if !slices.Contains(metadataKinds, parts[0]) {
			return fmt.Sprintf("%%METADATA(%s)%% does not say whose metadata: write one of %s first", argument, strings.Join(metadataKinds, ", "))
		}
	}
	if known := choices[name]; known != nil && argument != "" {
		for i, part := range parts {
			if i >= len(known) {
				return fmt.Sprintf("%%%s(%s)%% has too many arguments: remove %q", name, argument, part)
			}
			if !slices.Contains(known[i], part) {
				return fmt.Sprintf("%%%s(%s)%% has an argument that is not known: write one of %s in place of %q", name, argument, strings.Join(known[i], ", "), part)
			}
		}
	}
	return ""
}

// lengthProblem tells what is wrong with the length that a value is cut to, ":10".
func lengthProblem(name, length string) string {
	const digits = 5
	switch {
	case length == "":
		return ""
	case !slices.Contains(cutting, name):
		return fmt.Sprintf("%%%s%% cannot be cut to a length: remove %s", name, length)
	case len(length) > len(":")+digits:
		return fmt.Sprintf("%%%s%% is cut to a length that is too great: remove %s", name, length)
	}
	return ""
}
