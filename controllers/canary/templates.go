// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"context"
	"fmt"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// +kubebuilder:rbac:groups=headgate.dev,resources=metrictemplates,verbs=get;list;watch

// resolved is the analysis of a Canary with its MetricTemplates filled in, and why a metric
// cannot be measured, by its name. Without a reference to a template nothing is read. That
// templates cannot be read makes a metric unknown and nothing else: taking traffic back must not
// depend on it.
func (r *reconciler) resolved(ctx context.Context, c *v1beta1.Canary) (*v1beta1.Analysis, map[string]analysis.Problem) {
	spec := c.Spec.Analysis
	if spec == nil || !slices.ContainsFunc(spec.Metrics, hasTemplate) {
		return spec, nil
	}
	list := &v1beta1.MetricTemplateList{}
	unread := r.client.List(ctx, list, client.InNamespace(c.Namespace))
	templates := map[string]v1beta1.MetricTemplate{}
	for _, t := range list.Items {
		templates[t.Name] = t
	}
	spec = spec.DeepCopy()
	problems := map[string]analysis.Problem{}
	for i := range spec.Metrics {
		m, problem := analysis.Resolve(spec.Metrics[i], templates)
		if problem != nil && unread != nil {
			problem = &analysis.Problem{Reason: v1beta1.ReasonSourceUnavailable, Message: shorten(fmt.Sprintf("the MetricTemplates cannot be read: %v", unread), 256)}
		}
		if problem != nil {
			problems[m.Name] = *problem
		}
		spec.Metrics[i] = m
	}
	return spec, problems
}

func hasTemplate(m v1beta1.Metric) bool { return m.Template != nil }

// ofTemplate wakes the Canaries that refer to a MetricTemplate.
func (r *reconciler) ofTemplate(ctx context.Context, o client.Object) []reconcile.Request {
	list := r.canaries(ctx, client.InNamespace(o.GetNamespace()))
	list = slices.DeleteFunc(list, func(c v1beta1.Canary) bool {
		return c.Spec.Analysis == nil || !slices.ContainsFunc(c.Spec.Analysis.Metrics, func(m v1beta1.Metric) bool {
			return m.Template != nil && m.Template.Name == o.GetName()
		})
	})
	return requestsFor(list)
}
