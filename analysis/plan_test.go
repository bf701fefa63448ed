// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

func TestAnInvalidMetricIsUnknownAndSaysWhatToWrite(t *testing.T) {
	p := analysis.PlanFor(gateway(v1beta1.Metric{Name: "p", Gateway: v1beta1.GatewayLatency, Quantile: "7"}), subject(5))
	v := analysis.Judge(p, &analysis.Evidence{}, at(0))
	if v.Result != v1beta1.VerdictUnknown || v.Reason != v1beta1.ReasonInvalidSpec || !strings.Contains(v.Why, `write quantile: "0.99"`) {
		t.Errorf("%+v", v)
	}
}

func TestPlanForFillsDefaultsAndLeavesTheSpecAlone(t *testing.T) {
	num := func(s string) *v1beta1.Amount { return &v1beta1.Amount{Type: 1, StrVal: s} }
	tolerance := func(relative, absolute string) *v1beta1.Tolerance {
		out := &v1beta1.Tolerance{Relative: relative}
		if absolute != "" {
			out.Absolute = num(absolute)
		}
		return out
	}
	five, three, one := int32(5), int32(3), int32(1)
	query := &v1beta1.PrometheusSource{Query: "x"}
	for _, tt := range []struct {
		name     string
		in, want v1beta1.Metric
	}{
		{
			"errors",
			v1beta1.Metric{Gateway: v1beta1.GatewayErrorRate},
			v1beta1.Metric{Gateway: v1beta1.GatewayErrorRate, Tolerance: tolerance("25%", "0.05%"), GoodEnough: tolerance("50%", "1%"), Weight: &five},
		},
		{
			"errors with a tolerance that is more than the usual good enough",
			v1beta1.Metric{Gateway: v1beta1.GatewayErrorRate, Tolerance: tolerance("", "3%")},
			v1beta1.Metric{Gateway: v1beta1.GatewayErrorRate, Tolerance: tolerance("", "3%"), GoodEnough: tolerance("50%", "6%"), Weight: &five},
		},
		{
			"latency",
			v1beta1.Metric{Gateway: v1beta1.GatewayLatency},
			v1beta1.Metric{Gateway: v1beta1.GatewayLatency, Tolerance: tolerance("18%", "5ms"), GoodEnough: tolerance("50%", "1%"), Weight: &three},
		},
		{
			"a latency against a number is one quantile",
			v1beta1.Metric{Gateway: v1beta1.GatewayLatency, Threshold: &v1beta1.Threshold{Max: num("1s")}},
			v1beta1.Metric{Gateway: v1beta1.GatewayLatency, Threshold: &v1beta1.Threshold{Max: num("1s")}, Quantile: "0.99", GoodEnough: tolerance("50%", "1%"), Weight: &three},
		},
		{
			"answers",
			v1beta1.Metric{Gateway: v1beta1.GatewayAnswers},
			v1beta1.Metric{Gateway: v1beta1.GatewayAnswers, Tolerance: tolerance("20%", ""), Weight: &one},
		},
		{
			"a number beside stable has the sign test",
			v1beta1.Metric{Prometheus: query, Tolerance: tolerance("20%", "")},
			v1beta1.Metric{Prometheus: query, Tolerance: tolerance("20%", ""), Weight: &one},
		},
		{
			"one against a number has three misses",
			v1beta1.Metric{Prometheus: query, Threshold: &v1beta1.Threshold{Max: num("1")}},
			v1beta1.Metric{Prometheus: query, Threshold: &v1beta1.Threshold{Max: num("1")}, Misses: &three, Weight: &one},
		},
		{"a job has one", v1beta1.Metric{Job: &v1beta1.JobSource{}}, v1beta1.Metric{Job: &v1beta1.JobSource{}, Misses: &one, Weight: &one}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := gateway(tt.in)
			before := spec.DeepCopy()
			p := analysis.PlanFor(spec, subject(5))
			if diff := cmp.Diff([]v1beta1.Metric{tt.want}, p.Metrics); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, spec); diff != "" {
				t.Errorf("the spec was changed:\n%s", diff)
			}
		})
	}
	p := analysis.PlanFor(nil, subject(5))
	names := []string{}
	for _, m := range p.Metrics {
		names = append(names, m.Name)
	}
	if diff := cmp.Diff([]string{"errors", "latency", "answers"}, names); diff != "" {
		t.Error(diff)
	}
	if p.Interval != 10*time.Second || p.WarmUp != 15*time.Second || p.Alpha != 0.001 {
		t.Errorf("%+v", p)
	}
}
