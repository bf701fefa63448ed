// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"text/template/parse"
	"time"
)

// Fields are what a text of a metric can name. The values never come from a request:
// they are names of Kubernetes objects, numbers and patterns made of both.
type Fields struct {
	Namespace, Canary, Release, Step, Version, Service, Pods, Window string
}

// FieldsFor are the fields of a query about one arm.
func FieldsFor(q Query, arm Arm) Fields {
	v := q.Subject.CanaryVersion
	if arm == Stable {
		v = q.Subject.StableVersion
	}
	return Fields{
		Namespace: q.Subject.Namespace, Canary: q.Subject.Canary,
		Release: strconv.FormatInt(q.Subject.Attempt, 10), Step: strconv.FormatInt(int64(q.Subject.Step), 10),
		Version: v.Revision, Service: v.Service,
		Pods: withoutBackslashes(v.PodPattern), Window: promDuration(q.To.Sub(q.From)),
	}
}

const fieldNames = "{{.Namespace}}, {{.Canary}}, {{.Release}}, {{.Step}}, {{.Version}}, {{.Service}}, {{.Pods}} and {{.Window}}"

func (f Fields) value(name string) (string, bool) {
	switch name {
	case "Namespace":
		return f.Namespace, true
	case "Canary":
		return f.Canary, true
	case "Release":
		return f.Release, true
	case "Step":
		return f.Step, true
	case "Version":
		return f.Version, true
	case "Service":
		return f.Service, true
	case "Pods":
		return f.Pods, true
	case "Window":
		return f.Window, true
	default:
		return "", false
	}
}

// Escape makes a value safe in the kind of text it is put into.
type Escape func(string) string

// AsURL escapes a value for the path or the query of a URL.
func AsURL(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// AsJSON escapes a value for the inside of a JSON string.
func AsJSON(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		// A string always encodes.
		panic(fmt.Sprintf("encoding a string: %v", err))
	}
	return string(b[1 : len(b)-1])
}

// Render puts the fields into a text, each escaped where escape is not nil. Nothing but
// {{.Field}} is allowed: loops and functions of Go templates have no use here and can run
// for ever. The error is a sentence that says what to write instead.
func Render(text string, f Fields, escape Escape) (string, error) {
	return render(text, func(path []string) (string, error) {
		if len(path) == 1 {
			if v, ok := f.value(path[0]); ok {
				if escape != nil {
					v = escape(v)
				}
				return v, nil
			}
		}
		if len(path) == 2 && path[0] == "Args" {
			return "", fmt.Errorf("it names {{.Args.%s}}, but only a MetricTemplate has arguments: write the value itself, or one of %s", path[1], fieldNames)
		}
		return "", unknownField(path)
	})
}

func unknownField(path []string) error {
	return fmt.Errorf("it contains {{.%s}}, which is not one of %s", strings.Join(path, "."), fieldNames)
}

// render replaces every {{.Some.Path}} of a text by what value says.
func render(text string, value func(path []string) (string, error)) (string, error) {
	trees, err := parse.Parse("text", text, "", "")
	if err != nil {
		return "", fmt.Errorf("it is not a valid template (%s): write fields as %s",
			strings.TrimPrefix(err.Error(), "template: text:"), fieldNames)
	}
	tree := trees["text"]
	if tree == nil || tree.Root == nil {
		return "", nil
	}
	var b strings.Builder
	for _, n := range tree.Root.Nodes {
		switch n := n.(type) {
		case *parse.TextNode:
			b.Write(n.Text)
		case *parse.ActionNode:
			path, ok := solePath(n)
			if !ok {
				return "", fmt.Errorf("it contains %s, which is not one of %s", n, fieldNames)
			}
			v, err := value(path)
			if err != nil {
				return "", err
			}
			b.WriteString(v)
		default:
			return "", fmt.Errorf("it contains %s, which is not one of %s", n, fieldNames)
		}
	}
	return b.String(), nil
}

// solePath is the names in {{.Name}} or {{.Args.name}}.
func solePath(n *parse.ActionNode) ([]string, bool) {
	if n.Pipe == nil || len(n.Pipe.Decl) > 0 || len(n.Pipe.Cmds) != 1 || len(n.Pipe.Cmds[0].Args) != 1 {
		return nil, false
	}
	field, ok := n.Pipe.Cmds[0].Args[0].(*parse.FieldNode)
	if !ok {
		return nil, false
	}
	return field.Ident, true
}

// withoutBackslashes writes \. as [.]: the same regular expression, but one that
// means the same in every kind of quotes PromQL has.
func withoutBackslashes(pattern string) string {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '\\' && i+1 < len(pattern) && strings.IndexByte(`.+*?()|{}$[]`, pattern[i+1]) >= 0 {
			b.WriteString("[" + pattern[i+1:i+2] + "]")
			i++
			continue
		}
		b.WriteByte(pattern[i])
	}
	return b.String()
}

// promDuration is a PromQL duration in whole seconds, 1s to 5m.
func promDuration(d time.Duration) string {
	s := math.Round(min(max(d.Seconds(), 1), maxWindow.Seconds()))
	return fmt.Sprintf("%.0fs", s)
}

// Asks says whether a query is about an arm. A version without traffic has nothing to say: once the canary
// has all of it, stable is measured before that, and the canary after it.
func (q Query) Asks(arm Arm) bool {
	before := !q.Subject.Since.IsZero() && !q.To.After(q.Subject.Since)
	if arm == Canary {
		return !before
	}
	return q.Metric.Threshold == nil && (before || q.Subject.Weight < 100)
}
