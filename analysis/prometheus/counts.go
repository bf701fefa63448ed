// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/sequential"
)

// The names under which Envoy's Prometheus endpoint shows the statistics of a
// cluster. Each client request is once among the first three, whatever was tried to
// answer it: one that is not gRPC by the class of its answer, a gRPC call when it
// ended with a code. "internal" repeats those that were no client's, such as mirrored
// ones. Times are in milliseconds.
const (
	answered         = "envoy_cluster_upstream_rq_xx"
	answeredInternal = "envoy_cluster_internal_upstream_rq_xx"
	called           = "envoy_cluster_grpc_total"
	completed        = "envoy_cluster_upstream_rq_completed"
	sent             = "envoy_cluster_upstream_rq_total"
	sentAgain        = "envoy_cluster_upstream_rq_retry"
	took             = "envoy_cluster_upstream_rq_time_bucket"
	tookInternal     = "envoy_cluster_internal_upstream_rq_time_bucket"

	clusterLabel = "envoy_cluster_name"
	// The parts of the cluster's name.
	namespaceLabel, serviceLabel, portLabel = "backend_namespace", "backend_service", "backend_port"
	classLabel                              = "envoy_response_code_class"
)

// serversFault names the series of the gRPC codes that say that the server is to
// blame, once each call: Unknown, DeadlineExceeded, Unimplemented, Internal,
// Unavailable and DataLoss. They are the ones that google.rpc.Code maps to an HTTP
// status of 500 and above, and that OpenTelemetry counts as errors of the server. The
// proxy's own answers, such as to a call that found no endpoint, are Unavailable.
var serversFault = []string{
	"envoy_cluster_grpc_2", "envoy_cluster_grpc_4", "envoy_cluster_grpc_12",
	"envoy_cluster_grpc_13", "envoy_cluster_grpc_14", "envoy_cluster_grpc_15",
}

// counts asks for the raw samples of both arms at once and adds up by how much
// the counters rose. It never asks for rate() or increase(): those extrapolate to
// the ends of their window, and a sum of extrapolated counts is not a count.
func (s *Source) counts(ctx context.Context, q analysis.Query) (stable, canary analysis.Sample, problem *analysis.Problem) {
	value, problem := s.ask(ctx, q, countsQuery(q))
	if problem != nil {
		return stable, canary, problem
	}
	matrix, ok := value.(model.Matrix)
	if !ok {
		return stable, canary, incomplete(s.addressOf(q), fmt.Sprintf("it is a %T, not a range of samples", value))
	}
	rises := riseOf(matrix, q.From, q.To, proxies, beginnings(proxies, matrix))
	sampleOf := answersOf
	if q.Kind == analysis.KindHistogram {
		sampleOf = timesOf
	}
	stable = sampleOf(rises, q.Subject.Namespace, q.Subject.StableVersion)
	canary = sampleOf(rises, q.Subject.Namespace, q.Subject.CanaryVersion)
	return stable, canary, nil
}

// proxies groups the counters of proxies: those of one cluster are reset together.
var proxies = grouping{
	reset: func(m model.Metric) target { return without(m, model.MetricNameLabel, classLabel, model.BucketLabel) },
	origin: func(m model.Metric) target {
		return without(m, model.MetricNameLabel, classLabel, model.BucketLabel, clusterLabel, namespaceLabel, serviceLabel, portLabel)
	},
}

func countsQuery(q analysis.Query) string {
	names := append([]string{answered, answeredInternal, called, completed, sent, sentAgain}, serversFault...)
	if q.Kind == analysis.KindHistogram {
		// What was sent is known of a cluster from the start, so it is the witness
		// that a histogram which appears later began at zero.
		names = []string{took, tookInternal, sent}
	}
	return fmt.Sprintf("{__name__=~%q, %s=~%q}[%dms]",
		strings.Join(names, "|"), clusterLabel, clusterPattern(q.Subject),
		(q.To.Sub(q.From) + lookback).Milliseconds())
}

// clusterPattern matches the clusters of both arms: namespace/service/port, with
// the protocol behind it where that is not HTTP/1.1.
func clusterPattern(s analysis.Subject) string {
	var arms []string
	for _, v := range []analysis.Version{s.StableVersion, s.CanaryVersion} {
		ports := make([]string, 0, len(v.Ports))
		for _, p := range v.Ports {
			ports = append(ports, strconv.Itoa(int(p)))
		}
		slices.Sort(ports)
		port := "[0-9]+"
		if len(ports) > 0 {
			port = "(?:" + strings.Join(ports, "|") + ")"
		}
		arms = append(arms, regexp.QuoteMeta(v.Service)+"/"+port)
	}
	return regexp.QuoteMeta(s.Namespace) + "/(?:" + strings.Join(arms, "|") + ")(?:/[a-z0-9]+)?"
}

// answersOf adds up the answers of one arm by class and by code.
func answersOf(rises []rise, namespace string, v analysis.Version) analysis.Sample {
	var all, internal analysis.Sample
	for _, r := range rises {
		if !ofVersion(string(r.metric[clusterLabel]), namespace, v) {
			continue
		}
		all.Present = true
		switch name := string(r.metric[model.MetricNameLabel]); name {
		case answered:
			all = all.Plus(ofClass(r))
		case answeredInternal:
			internal = internal.Plus(ofClass(r))
		case called:
			all.Requests += r.by
		default:
			if slices.Contains(serversFault, name) {
				all.Bad += r.by
			}
		}
	}
	all = all.Minus(internal)
	return all
}

// timesOf adds up the histograms of one arm. Each proxy and cluster has its own,
// and its own bounds.
func timesOf(rises []rise, namespace string, v analysis.Version) analysis.Sample {
	var all analysis.Sample
	type pair struct{ whole, internal []sequential.Bucket }
	var order []target
	parts := map[target]pair{}
	for _, r := range rises {
		if !ofVersion(string(r.metric[clusterLabel]), namespace, v) {
			continue
		}
		all.Present = true
		h, known := parts[r.target]
		if !known {
			order = append(order, r.target)
		}
		switch r.metric[model.MetricNameLabel] {
		case took:
			h.whole = append(h.whole, bucketOf(r))
		case tookInternal:
			h.internal = append(h.internal, bucketOf(r))
		}
		parts[r.target] = h
	}
	for _, t := range order {
		all = all.Plus(histogram(parts[t].whole).Minus(histogram(parts[t].internal)))
	}
	return all
}

func ofVersion(cluster, namespace string, v analysis.Version) bool {
	parts := strings.Split(cluster, "/")
	if len(parts) < 3 || parts[0] != namespace || parts[1] != v.Service {
		return false
	}
	port, err := strconv.ParseInt(parts[2], 10, 32)
	return err == nil && (len(v.Ports) == 0 || slices.Contains(v.Ports, int32(port)))
}

// ofClass is a rise of the counter of one class of answers; 5 is bad.
func ofClass(r rise) analysis.Sample {
	s := analysis.Sample{Requests: r.by}
	if r.metric[classLabel] == "5" {
		s.Bad = r.by
	}
	return s
}

func bucketOf(r rise) sequential.Bucket {
	le, err := strconv.ParseFloat(string(r.metric[model.BucketLabel]), 64)
	if err != nil {
		return sequential.Bucket{Le: -1}
	}
	return sequential.Bucket{Le: le / 1000, Count: r.by}
}
