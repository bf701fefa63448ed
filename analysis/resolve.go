// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"headgate.dev/headgate/api/v1beta1"
)

// Resolve replaces a reference to a MetricTemplate by what the template says, field by
// field, where the metric does not say otherwise; a metric without a reference stays as it
// is. Templates are those of the Canary's namespace, by name.
//
// Arguments are put into the template's texts as they are, not escaped: their author
// may as well write a metric of their own. An argument may itself contain {{.Pods}} and the
// like, which are filled in, and escaped, when the metric is measured.
//
// The problem is a sentence about what is missing or wrong, and is nil where the metric
// can be measured.
func Resolve(m v1beta1.Metric, templates map[string]v1beta1.MetricTemplate) (v1beta1.Metric, *Problem) {
	if m.Template == nil {
		return m, nil
	}
	t, ok := templates[m.Template.Name]
	if !ok {
		return m, &Problem{Reason: v1beta1.ReasonTemplateNotFound, Message: templateMissing(m.Template.Name, templates)}
	}
	invalid := func(err error) (v1beta1.Metric, *Problem) {
		return m, &Problem{Reason: v1beta1.ReasonInvalidSpec, Message: fmt.Sprintf("MetricTemplate %q: %v", t.Name, err)}
	}
	args, err := arguments(m.Template.Args, t.Spec.Args)
	if err != nil {
		return invalid(err)
	}
	resolved := overlay(*t.Spec.Metric.DeepCopy(), *m.DeepCopy())
	if err := fillIn(&resolved, args); err != nil {
		return invalid(err)
	}
	if err := ValidateMetric(resolved); err != nil {
		return invalid(err)
	}
	return resolved, nil
}

func templateMissing(name string, templates map[string]v1beta1.MetricTemplate) string {
	if len(templates) == 0 {
		return fmt.Sprintf("there is no MetricTemplate %q: the namespace has none", name)
	}
	return fmt.Sprintf("there is no MetricTemplate %q: the namespace has %s", name, quoted(slices.Sorted(maps.Keys(templates))))
}

// quoted lists at most ten names.
func quoted(names []string) string {
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == 10 {
			b.WriteString("…")
			break
		}
		fmt.Fprintf(&b, "%q", n)
	}
	return b.String()
}

// arguments are the values of all parameters of a template.
func arguments(given []v1beta1.Argument, declared []v1beta1.Parameter) (map[string]string, error) {
	names := make([]string, 0, len(declared))
	args := map[string]string{}
	for _, p := range declared {
		names = append(names, p.Name)
		if p.Default != nil {
			args[p.Name] = *p.Default
		}
	}
	slices.Sort(names)
	for _, a := range given {
		switch {
		case len(names) == 0:
			return nil, fmt.Errorf("it has no arguments, but template.args gives %q: remove it", a.Name)
		case !slices.Contains(names, a.Name):
			return nil, fmt.Errorf("it has no argument %q: its arguments are %s", a.Name, quoted(names))
		}
		args[a.Name] = a.Value
	}
	for _, n := range names {
		if _, ok := args[n]; !ok {
			return nil, fmt.Errorf("the argument %q has no value: write template.args: [{name: %s, value: …}]", n, n)
		}
	}
	return args, nil
}

// overlay puts what the Canary's metric says over what the template says.
func overlay(t, m v1beta1.Metric) v1beta1.Metric {
	t.Name, t.Template, t.Observe = m.Name, nil, t.Observe || m.Observe
	if m.Quantile != "" {
		t.Quantile = m.Quantile
	}
	// The two exclude each other: what the Canary writes takes the place of either.
	if m.Tolerance != nil {
		t.Tolerance, t.Threshold = m.Tolerance, nil
	}
	if m.Threshold != nil {
		t.Tolerance, t.Threshold = nil, m.Threshold
	}
	if m.GoodEnough != nil {
		t.GoodEnough = m.GoodEnough
	}
	if m.Interval != nil {
		t.Interval = m.Interval
	}
	if m.InitialDelay != nil {
		t.InitialDelay = m.InitialDelay
	}
	if m.Misses != nil {
		t.Misses = m.Misses
	}
	if m.Weight != nil {
		t.Weight = m.Weight
	}
	return t
}

// fillIn puts the arguments into the texts of a metric; the other fields stay to be
// rendered when it is measured.
func fillIn(m *v1beta1.Metric, args map[string]string) error {
	for _, t := range texts(m) {
		v, err := render(*t.text, func(path []string) (string, error) {
			if len(path) != 2 || path[0] != "Args" {
				return "{{." + strings.Join(path, ".") + "}}", nil
			}
			v, ok := args[path[1]]
			if !ok {
				return "", fmt.Errorf("it names {{.Args.%s}}, which is not an argument of the template: add it to spec.args", path[1])
			}
			return v, nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", t.field, err)
		}
		*t.text = v
	}
	if m.Job == nil {
		return nil
	}
	filled, err := fillInJob(m.Job.Spec.Raw, args)
	if err != nil {
		return fmt.Errorf("job.spec: %w", err)
	}
	m.Job.Spec.Raw = filled
	return nil
}

type text struct {
	field string
	text  *string
}

// texts are the texts of a metric in which arguments are filled in.
func texts(m *v1beta1.Metric) []text {
	var all []text
	headers := func(source string, c *v1beta1.Connection) {
		for i := range c.Headers {
			all = append(all, text{source + ".headers." + c.Headers[i].Name, &c.Headers[i].Value})
		}
	}
	if p := m.Prometheus; p != nil {
		all = append(all, text{"prometheus.query", &p.Query}, text{"prometheus.stableQuery", &p.StableQuery},
			text{"prometheus.histogram", &p.Histogram}, text{"prometheus.address", &p.Address})
		if p.Counters != nil {
			all = append(all, text{"prometheus.counters.bad", &p.Counters.Bad}, text{"prometheus.counters.total", &p.Counters.Total})
		}
		headers("prometheus", &p.Connection)
	}
	if h := m.HTTP; h != nil {
		all = append(all, text{"http.url", &h.URL}, text{"http.body", &h.Body}, text{"http.value", &h.Value})
		headers("http", &h.Connection)
	}
	if w := m.Webhook; w != nil {
		all = append(all, text{"webhook.url", &w.URL})
		headers("webhook", &w.Connection)
	}
	return all
}

// fillInJob puts the arguments into all texts of a Job. Anything else in double
// braces is the Job's own: its containers may well use templates.
func fillInJob(raw []byte, args map[string]string) ([]byte, error) {
	var spec any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&spec); err != nil {
		return nil, fmt.Errorf("it is not an object (%w)", err)
	}
	argument := regexp.MustCompile(`\{\{\s*\.Args\.([A-Za-z0-9]+)\s*\}\}`)
	var unknown string
	fill := func(s string) string {
		return argument.ReplaceAllStringFunc(s, func(found string) string {
			name := argument.FindStringSubmatch(found)[1]
			v, ok := args[name]
			if !ok {
				unknown = name
			}
			return v
		})
	}
	filled, err := json.Marshal(eachText(spec, fill))
	switch {
	case unknown != "":
		return nil, fmt.Errorf("it names {{.Args.%s}}, which is not an argument of the template: add it to spec.args", unknown)
	case err != nil:
		return nil, fmt.Errorf("encoding it: %w", err)
	}
	return filled, nil
}

// eachText is a decoded JSON value with every string replaced, but not the keys.
func eachText(v any, f func(string) string) any {
	switch v := v.(type) {
	case string:
		return f(v)
	case []any:
		for i := range v {
			v[i] = eachText(v[i], f)
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			v[k] = eachText(v[k], f)
		}
	}
	return v
}
