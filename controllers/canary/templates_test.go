// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/api/v1beta1"
)

func TestAMissingTemplateHoldsAndItsComingGoesOn(t *testing.T) {
	e := newEnv(t)
	e.shop(2, func(c *v1beta1.Canary) {
		c.Spec.Analysis = &v1beta1.Analysis{Metrics: []v1beta1.Metric{{
			Name: "queue", Template: &v1beta1.TemplateReference{Name: "queue", Args: []v1beta1.Argument{{Name: "metric", Value: "queue_length"}}},
		}}}
	})
	e.start()
	e.phase(v1beta1.PhaseIdle)
	e.image("v2")
	unknown := func(reason, part string) {
		t.Helper()
		e.eventually("unknown, because "+part, func(c *v1beta1.Canary) bool {
			return c.Status.Weight == 10 && c.Status.Release != nil && len(c.Status.Release.Metrics) == 1 && c.Status.Release.Metrics[0].Verdict == v1beta1.VerdictUnknown &&
				c.Status.Release.Metrics[0].Reason == reason && strings.Contains(c.Status.Release.Metrics[0].Message, part)
		})
	}
	unknown(v1beta1.ReasonTemplateNotFound, `there is no MetricTemplate "queue"`)

	max := v1beta1.Amount{Type: 0, IntVal: 10}
	template := &v1beta1.MetricTemplate{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: "queue"},
		Spec: v1beta1.MetricTemplateSpec{
			Args: []v1beta1.Parameter{{Name: "metric"}, {Name: "pod"}},
			Metric: v1beta1.Metric{
				Name: "unused", Threshold: &v1beta1.Threshold{Max: &max},
				Prometheus: &v1beta1.PrometheusSource{Query: `max({{.Args.metric}}{pod=~"{{.Args.pod}}"})`},
			},
		},
	}
	e.create(template)
	unknown(v1beta1.ReasonInvalidSpec, `the argument "pod" has no value`)

	pods := "{{.Pods}}"
	template.Spec.Args[1].Default = &pods
	if err := server.client.Update(e.ctx, template); err != nil {
		t.Fatal(err)
	}
	e.eventually("the template is there and the metric passes", func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseIdle && c.Status.Release != nil && c.Status.Release.Outcome == v1beta1.OutcomeSucceeded
	})
}
