// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"headgate.dev/headgate/api/v1beta1"
)

// AccessLogProblems tells, in sentences, what Envoy would refuse of an access log: it would
// refuse every listener of the Gateway with it.
func AccessLogProblems(log *v1beta1.AccessLog) []string {
	if log == nil {
		return nil
	}
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(log.Fields)) {
		if text := operatorProblem(log.Fields[name]); text != "" {
			texts = append(texts, fmt.Sprintf("spec.accessLog.fields[%s]: %s", name, text))
		}
	}
	if text := operatorProblem(log.Text); text != "" {
		texts = append(texts, "spec.accessLog.text: "+text)
	}
	return texts
}

// operator is a command operator at the beginning of a text: %NAME%, %NAME(argument)%
// or %NAME(argument):length%.
var operator = regexp.MustCompile(`^%([A-Z0-9_]+)(\([^)\r\n]*\))?(:[0-9]+)?%`)

func operatorProblem(text string) string {
	for {
		at := strings.IndexByte(text, '%')
		if at < 0 {
			return ""
		}
		text = text[at:]
		if strings.HasPrefix(text, "%%") {
			text = text[2:]
			continue
		}
		found := operator.FindStringSubmatch(text)
		if found == nil {
			return fmt.Sprintf("%q is not a command operator: write %%NAME%%, %%NAME(ARGUMENT)%%, or %%%% for a percent sign", beginning(text))
		}
		name, argument, length := found[1], found[2], found[3]
		takes, known := operators[name]
		switch {
		case !known:
			return fmt.Sprintf("%%%s%% is not a command operator that can be used here: see the list in docs/proxies.md", name)
		case takes == noArgument && argument != "":
			return fmt.Sprintf("%%%s%% takes no argument: remove %s", name, argument)
		case takes == needsArgument && len(argument) <= len("()"):
			return fmt.Sprintf("%%%s%% needs an argument: write %%%s(NAME)%%", name, name)
		}
		if argument != "" {
			if problem := argumentProblem(name, argument[1:len(argument)-1]); problem != "" {
				return problem
			}
		}
		if problem := lengthProblem(name, length); problem != "" {
			return problem
		}
		text = text[len(found[0]):]
	}
}

func beginning(text string) string {
	const most = 40
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}

type argument int

const (
	noArgument argument = iota
	needsArgument
	mayHaveArgument
)

// operators are Envoy's command operators that say something about a request; a test asks
// a real Envoy whether it knows each.
var operators = map[string]argument{
	"REQ": needsArgument, "RESP": needsArgument, "TRAILER": needsArgument, "QUERY_PARAM": needsArgument, "METADATA": needsArgument,
	"DYNAMIC_METADATA": needsArgument, "CLUSTER_METADATA": needsArgument, "UPSTREAM_METADATA": needsArgument, "FILTER_STATE": needsArgument,
	"START_TIME": mayHaveArgument, "EMIT_TIME": mayHaveArgument, "RESPONSE_CODE_DETAILS": mayHaveArgument,
	"PROTOCOL": noArgument, "UPSTREAM_PROTOCOL": noArgument, "RESPONSE_CODE": noArgument,
	"CONNECTION_TERMINATION_DETAILS": noArgument, "RESPONSE_FLAGS": noArgument, "RESPONSE_FLAGS_LONG": noArgument,
	"GRPC_STATUS": mayHaveArgument, "GRPC_STATUS_NUMBER": noArgument,
	"REQUEST_HEADERS_BYTES": noArgument, "RESPONSE_HEADERS_BYTES": noArgument, "RESPONSE_TRAILERS_BYTES": noArgument,
	"BYTES_RECEIVED": noArgument, "BYTES_SENT": noArgument,
	"UPSTREAM_WIRE_BYTES_SENT": noArgument, "UPSTREAM_WIRE_BYTES_RECEIVED": noArgument,
	"DOWNSTREAM_WIRE_BYTES_SENT": noArgument, "DOWNSTREAM_WIRE_BYTES_RECEIVED": noArgument,
	"DURATION": noArgument, "REQUEST_DURATION": noArgument, "REQUEST_TX_DURATION": noArgument,
	"RESPONSE_DURATION": noArgument, "RESPONSE_TX_DURATION": noArgument, "ROUNDTRIP_DURATION": noArgument,
	"UPSTREAM_HOST": noArgument, "UPSTREAM_CLUSTER": noArgument, "UPSTREAM_REQUEST_ATTEMPT_COUNT": noArgument,
	"UPSTREAM_LOCAL_ADDRESS": noArgument, "UPSTREAM_REMOTE_ADDRESS": noArgument, "UPSTREAM_TRANSPORT_FAILURE_REASON": noArgument,
	"DOWNSTREAM_REMOTE_ADDRESS": noArgument, "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": mayHaveArgument, "DOWNSTREAM_REMOTE_PORT": noArgument,
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS": noArgument, "DOWNSTREAM_LOCAL_ADDRESS": noArgument, "DOWNSTREAM_LOCAL_PORT": noArgument,
	"DOWNSTREAM_TLS_VERSION": noArgument, "DOWNSTREAM_TLS_CIPHER": noArgument, "DOWNSTREAM_PEER_SUBJECT": noArgument,
	"DOWNSTREAM_PEER_URI_SAN": noArgument, "DOWNSTREAM_PEER_SERIAL": noArgument, "DOWNSTREAM_PEER_FINGERPRINT_256": noArgument,
	"REQUESTED_SERVER_NAME": mayHaveArgument, "CONNECTION_ID": noArgument, "STREAM_ID": noArgument, "TRACE_ID": noArgument,
	"ROUTE_NAME": noArgument, "FILTER_CHAIN_NAME": noArgument, "VIRTUAL_CLUSTER_NAME": noArgument, "HOSTNAME": noArgument,
	"PATH": mayHaveArgument,
}

// Operators lists the command operators that an access log may use, each with an argument
// where it needs one, sorted.
func Operators() []string {
	var out []string
	for name, takes := range operators {
		if takes == needsArgument {
			name += "(" + example(name) + ")"
		}
		out = append(out, "%"+name+"%")
	}
	slices.Sort(out)
	return out
}

func example(operator string) string {
	switch operator {
	case "METADATA":
		return "ROUTE:headgate:name"
	case "DYNAMIC_METADATA", "CLUSTER_METADATA", "UPSTREAM_METADATA":
		return "headgate:name"
	case "FILTER_STATE":
		return "name:PLAIN"
	}
	return "NAME"
}
