// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/shop"
)

// weightChanges changes the weights of two backends under load, as a release
// does and as a user does, and measures until every proxy has confirmed.
func weightChanges(ctx context.Context, s *shop.Shop, changes int) ([]figure, error) {
	if err := s.Apply(ctx, `{apiVersion: v1, kind: Service, metadata: {name: checkout-other}, spec: {selector: {app: checkout}, ports: [{name: http, port: 80, targetPort: http}]}}`); err != nil {
		return nil, err
	}
	routes, err := client.NewWithWatch(s.Config, client.Options{Scheme: s.Client.Scheme()})
	if err != nil {
		return nil, fmt.Errorf("making a client that watches: %w", err)
	}
	visitors, err := s.Visitors(ctx, 500)
	if err != nil {
		return nil, err
	}
	defer visitors.Stop()
	var rows []figure
	for _, mode := range []struct{ name, annotation string }{
		{"as a release does (runtime keys)", `"` + v1beta1.AnnotationRelease + `":"{}"`},
		{"by hand (route table)", `"` + v1beta1.AnnotationRelease + `":null`},
	} {
		times := make([]time.Duration, 0, changes)
		for i := range changes {
			took, err := changeWeight(ctx, s, routes, mode.annotation, 1+i%99)
			if err != nil {
				return nil, err
			}
			if i > 0 { // the first one adds the backend
				times = append(times, took)
			}
		}
		slices.Sort(times)
		rows = append(rows, figure{
			fmt.Sprintf("from the weight patch, %s, to the status that says every proxy serves it: p50 / p99 of %d", mode.name, len(times)),
			fmt.Sprintf("%s / %s ms", milliseconds(times[len(times)/2]), milliseconds(times[len(times)*99/100])),
		})
	}
	report := visitors.Stop()
	if err := undo(ctx, s); err != nil {
		return nil, err
	}
	return append(rows, figure{
		fmt.Sprintf("failed requests in these %d weight changes at 500 requests/s", 2*changes), fmt.Sprintf("%d of %d", report.NotCaused(), report.Requests),
	}), nil
}

// changeWeight sets the weight and returns the time until the route's status
// says that the proxies serve it.
func changeWeight(ctx context.Context, s *shop.Shop, routes client.WithWatch, annotation string, weight int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	news, err := routes.Watch(ctx, &gwv1.HTTPRouteList{}, client.InNamespace(s.Name))
	if err != nil {
		return 0, fmt.Errorf("watching the route: %w", err)
	}
	defer news.Stop()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%s}},"spec":{"rules":[{"backendRefs":[{"name":"checkout","port":80,"weight":%d},{"name":"checkout-other","port":80,"weight":%d}]}]}}`,
		annotation, 100-weight, weight)
	route := &gwv1.HTTPRoute{}
	route.Namespace, route.Name = s.Name, shop.Name
	begin := time.Now()
	if err := s.Client.Patch(ctx, route, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		return 0, fmt.Errorf("patching the route: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("the proxies did not confirm generation %d of the route", route.Generation)
		case event, open := <-news.ResultChan():
			if !open {
				return 0, fmt.Errorf("the watch of the route ended")
			}
			if r, is := event.Object.(*gwv1.HTTPRoute); is && event.Type != watch.Deleted && programmed(r, route.Generation) {
				return time.Since(begin), nil
			}
		}
	}
}

func programmed(r *gwv1.HTTPRoute, generation int64) bool {
	for _, parent := range r.Status.Parents {
		for _, c := range parent.Conditions {
			if c.Type == v1beta1.RouteConditionProgrammed && c.Status == "True" && c.ObservedGeneration >= generation {
				return true
			}
		}
	}
	return false
}

// undo gives the route back to the one Service.
func undo(ctx context.Context, s *shop.Shop) error {
	route := &gwv1.HTTPRoute{}
	route.Namespace, route.Name = s.Name, shop.Name
	patch := `{"metadata":{"annotations":{"` + v1beta1.AnnotationRelease + `":null}},"spec":{"rules":[{"backendRefs":[{"name":"checkout","port":80}]}]}}`
	if err := s.Client.Patch(ctx, route, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		return fmt.Errorf("restoring the route: %w", err)
	}
	return nil
}

func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 1, 64)
}
