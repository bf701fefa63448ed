// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"
	"strings"
	"text/template/parse"
	"time"
)

// Fields are what a query template can name.
type Fields struct {
	Namespace, Canary, Service, Pods, Window string
}

// FieldsFor are the fields of a query about one arm.
func FieldsFor(q Query, arm Arm) Fields {
	v := q.Subject.CanaryVersion
	if arm == Stable {
		v = q.Subject.StableVersion
	}
	return Fields{
		Namespace: q.Subject.Namespace, Canary: q.Subject.Canary, Service: v.Service,
		Pods: withoutBackslashes(v.PodPattern), Window: promDuration(q.To.Sub(q.From)),
	}
}

const fieldNames = "{{.Namespace}}, {{.Canary}}, {{.Service}}, {{.Pods}} and {{.Window}}"

func (f Fields) value(name string) (string, bool) {
	switch name {
	case "Namespace":
		return f.Namespace, true
	case "Canary":
		return f.Canary, true
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

// Render puts the fields into a query. Nothing but {{.Field}} is allowed: loops
// and functions of Go templates have no use in a query and can run for ever. The
// error is a sentence that says what to write instead.
func Render(query string, f Fields) (string, error) {
	trees, err := parse.Parse("query", query, "", "")
	if err != nil {
		return "", fmt.Errorf("the query is not a valid template (%s): write fields as %s",
			strings.TrimPrefix(err.Error(), "template: query:"), fieldNames)
	}
	tree := trees["query"]
	if tree == nil || tree.Root == nil {
		return "", fmt.Errorf("the query is empty: write PromQL that gives one number")
	}
	var b strings.Builder
	for _, n := range tree.Root.Nodes {
		switch n := n.(type) {
		case *parse.TextNode:
			b.Write(n.Text)
		case *parse.ActionNode:
			name, ok := soleField(n)
			v, known := f.value(name)
			if !ok || !known {
				return "", fmt.Errorf("the query contains %s, which is not one of %s", n, fieldNames)
			}
			b.WriteString(v)
		default:
			return "", fmt.Errorf("the query contains %s, which is not one of %s", n, fieldNames)
		}
	}
	if strings.TrimSpace(b.String()) == "" {
		return "", fmt.Errorf("the query is empty: write PromQL that gives one number")
	}
	return b.String(), nil
}

// soleField is the name in {{.Name}}.
func soleField(n *parse.ActionNode) (string, bool) {
	if n.Pipe == nil || len(n.Pipe.Decl) > 0 || len(n.Pipe.Cmds) != 1 || len(n.Pipe.Cmds[0].Args) != 1 {
		return "", false
	}
	field, ok := n.Pipe.Cmds[0].Args[0].(*parse.FieldNode)
	if !ok || len(field.Ident) != 1 {
		return "", false
	}
	return field.Ident[0], true
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
