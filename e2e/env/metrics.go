// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"fmt"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// OperatorMetrics reads the metrics of the leading operator.
func (c *Cluster) OperatorMetrics(ctx context.Context) (map[string]*dto.MetricFamily, error) {
	var pods corev1.PodList
	err := c.Client.List(ctx, &pods, client.InNamespace(HeadgateNamespace), client.MatchingLabels{"headgate.dev/leader": "true"})
	if err != nil {
		return nil, fmt.Errorf("looking for the leading operator: %w", err)
	}
	if len(pods.Items) != 1 {
		return nil, fmt.Errorf("looking for the leading operator: %d pods are marked, want 1", len(pods.Items))
	}
	stream, err := c.Clientset.CoreV1().Pods(HeadgateNamespace).ProxyGet("http", pods.Items[0].Name, "8080", "metrics", nil).Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the operator's metrics: %w", err)
	}
	defer func() { _ = stream.Close() }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(stream)
	if err != nil {
		return nil, fmt.Errorf("reading the operator's metrics: %w", err)
	}
	return families, nil
}
