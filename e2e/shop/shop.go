// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package shop is the little world that the demo, the scenarios and the figures
// play in: Headgate and a Prometheus on a cluster, and in a namespace a Gateway, a
// Deployment with its Service and HTTPRoute, a Canary, and visitors.
package shop

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/env"
	"headgate.dev/headgate/e2e/load"
)

// Name is the name of the shop's Deployment, Service, HTTPRoute and Canary; Host
// is what its visitors ask for.
const (
	Name = "checkout"
	Host = "shop.example"
)

//go:embed shop.yaml
var manifest string

// QuickCanary is a Canary for tests and demos: steps of seconds, and numbers of
// requests that a few hundred visitors per second make in that time.
const QuickCanary = `apiVersion: headgate.dev/v1beta1
kind: Canary
metadata:
  name: checkout
spec:
  target: {name: checkout}
  steps:
  - {weight: 5, hold: 2s}
  - {weight: 25, hold: 2s}
  - {weight: 50, hold: 2s}
  - {weight: 100, bake: 2s}
  keepFailed: 5s
  analysis:
    interval: 1s
    warmUp: 0s
    metrics:
    - {name: errors, gateway: ErrorRate, tolerance: {absolute: 1%}, goodEnough: {absolute: 15%}}
    - {name: latency, gateway: Latency, tolerance: {relative: 100%, absolute: 200ms}, goodEnough: {absolute: 15%}}
    - {name: answers, gateway: Answers, tolerance: {relative: 50%}}
`

// Shop is one shop on a cluster.
type Shop struct {
	*env.Space
	// Replicas of the Deployment.
	Replicas int
	// Address is where the Gateway is reached.
	Address string
	// Protocol of the visitors. With load.GRPC the shop has a GRPCRoute instead of an
	// HTTPRoute.
	Protocol load.Protocol
}

// Version is one version of the shop's app with its knobs (see e2e/app).
type Version struct {
	Name string
	Env  map[string]string
}

// Monitoring is the namespace of the Prometheus.
const Monitoring = "headgate-monitoring"

// Ground brings everything to the cluster that a shop needs: the Gateway API,
// a Prometheus and Headgate. What is there already is kept or upgraded.
func Ground(ctx context.Context, c *env.Cluster) error {
	if err := c.InstallGatewayAPI(ctx, "standard"); err != nil {
		return err
	}
	if err := c.Apply(ctx, "{apiVersion: v1, kind: Namespace, metadata: {name: "+Monitoring+"}}"); err != nil {
		return err
	}
	address, err := (&env.Space{Cluster: c, Name: Monitoring}).InstallPrometheus(ctx)
	if err != nil {
		return err
	}
	return c.InstallHeadgate(ctx, map[string]string{"prometheus.address": address})
}

// Open opens a shop in a namespace and waits until it sells the first version. It
// has no Canary yet.
func Open(ctx context.Context, space *env.Space, replicas int, first Version) (*Shop, error) {
	return open(ctx, &Shop{Space: space, Replicas: replicas, Protocol: load.HTTP1}, first)
}

// OpenGRPC is Open for a shop behind a GRPCRoute.
func OpenGRPC(ctx context.Context, space *env.Space, replicas int, first Version) (*Shop, error) {
	return open(ctx, &Shop{Space: space, Replicas: replicas, Protocol: load.GRPC}, first)
}

func open(ctx context.Context, s *Shop, first Version) (*Shop, error) {
	if err := s.Deploy(ctx, first); err != nil {
		return nil, err
	}
	// Both kinds of routes say this little with the same words.
	if err := s.Apply(ctx, strings.ReplaceAll(manifest, "kind: HTTPRoute", "kind: "+s.RouteKind())); err != nil {
		return nil, err
	}
	if err := s.WaitRolledOut(ctx, Name, time.Minute); err != nil {
		return nil, err
	}
	address, err := s.WaitProgrammed(ctx, "front", time.Minute)
	if err != nil {
		return nil, err
	}
	s.Address = address
	return s, s.waitSelling(ctx)
}

// RouteKind is the kind of the shop's route.
func (s *Shop) RouteKind() string {
	if s.Protocol == load.GRPC {
		return "GRPCRoute"
	}
	return "HTTPRoute"
}

// Requests are the options of a load on the shop at a rate, per second.
func (s *Shop) Requests(rate float64, d time.Duration) load.Options {
	return load.Options{URL: "http://" + s.Address + "/", Host: Host, Rate: rate, Duration: d, Protocol: s.Protocol}
}

// Rest opens a shop without visitors and waits until its Canary is at rest.
func (s *Shop) Rest(ctx context.Context) error {
	if err := s.Deploy(ctx, Version{Name: "v1"}); err != nil {
		return err
	}
	if err := s.Apply(ctx, manifest+"---\n"+QuickCanary); err != nil {
		return err
	}
	return s.WaitCanary(ctx, "the Canary to be at rest", time.Minute, func(c *v1beta1.Canary) bool { return c.Status.Phase == v1beta1.PhaseIdle })
}

// waitSelling waits until a visitor is served.
func (s *Shop) waitSelling(ctx context.Context) error {
	return s.Wait(ctx, "the shop to answer", 30*time.Second, func(ctx context.Context) (bool, string, error) {
		report, err := load.Do(ctx, s.Requests(20, 100*time.Millisecond))
		if err != nil {
			return false, "", err
		}
		return report.Requests > 0 && report.NotCaused() == 0, report.String(), nil
	})
}

// Key names an object in the shop's namespace.
func (s *Shop) Key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: s.Name, Name: name}
}

// Deploy applies the Deployment with a version, as a user's pipeline does.
func (s *Shop) Deploy(ctx context.Context, v Version) error {
	image, err := s.Image(ctx, "app")
	if err != nil {
		return err
	}
	// The Service stands in shop.yaml.
	deployment, _, _ := strings.Cut(env.App{Name: Name, Replicas: s.Replicas, Version: v.Name, Env: v.Env}.Manifest(image), "\n---\n")
	return s.Apply(ctx, deployment)
}

// Visitors sends requests to the shop at a rate, per second, until stopped.
func (s *Shop) Visitors(ctx context.Context, rate float64) (*load.Run, error) {
	return load.Begin(ctx, s.Requests(rate, 10*time.Minute))
}

// Canary reads the shop's Canary.
func (s *Shop) Canary(ctx context.Context) (*v1beta1.Canary, error) {
	c := &v1beta1.Canary{}
	if err := s.Client.Get(ctx, s.Key(Name), c); err != nil {
		return nil, fmt.Errorf("reading the Canary: %w", err)
	}
	return c, nil
}

// WaitCanary waits until the Canary fits.
func (s *Shop) WaitCanary(ctx context.Context, what string, limit time.Duration, fits func(*v1beta1.Canary) bool) error {
	return s.Wait(ctx, what, limit, func(ctx context.Context) (bool, string, error) {
		c := &v1beta1.Canary{}
		if err := s.Client.Get(ctx, s.Key(Name), c); err != nil {
			return false, "", err
		}
		return fits(c), Summary(c), nil
	})
}

// Summary is a Canary's status in one line.
func Summary(c *v1beta1.Canary) string {
	s := fmt.Sprintf("%s, weight %d, step %s", c.Status.Phase, c.Status.Weight, c.Status.Step)
	for _, condition := range c.Status.Conditions {
		if condition.Type == v1beta1.ConditionReady {
			s += ": " + condition.Reason + ": " + condition.Message
		}
	}
	return s
}

// Command asks the Canary for something, as kubectl annotate does.
func (s *Shop) Command(ctx context.Context, command string) error {
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1beta1.AnnotationCommand, command)
	c := &v1beta1.Canary{}
	c.Namespace, c.Name = s.Name, Name
	if err := s.Client.Patch(ctx, c, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		return fmt.Errorf("asking the Canary to %s: %w", command, err)
	}
	return nil
}

// Deployment reads the shop's Deployment.
func (s *Shop) Deployment(ctx context.Context) (*appsv1.Deployment, error) {
	d := &appsv1.Deployment{}
	if err := s.Client.Get(ctx, s.Key(Name), d); err != nil {
		return nil, fmt.Errorf("reading the Deployment: %w", err)
	}
	return d, nil
}

// Pods lists the shop's pods of one version.
func (s *Shop) Pods(ctx context.Context, version string) ([]corev1.Pod, error) {
	var all corev1.PodList
	if err := s.Client.List(ctx, &all, client.InNamespace(s.Name), client.MatchingLabels{"app": Name}); err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	var pods []corev1.Pod
	for _, p := range all.Items {
		for _, e := range p.Spec.Containers[0].Env {
			if e.Name == "VERSION" && e.Value == version {
				pods = append(pods, p)
			}
		}
	}
	return pods, nil
}
