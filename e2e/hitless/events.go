// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/e2e/env"
)

// event is something that takes its time and goes on beside the changes.
type event struct {
	name string
	// away says that Headgate cannot act for some of the time.
	away bool
	// make starts it, says how a new configuration is seen after it has begun, and gives
	// a function that waits for its end.
	make func(context.Context) (seen, func(context.Context) error, error)
}

// events lets each happen as often as rounds says, one after the other.
func (w *world) events(ctx context.Context, j *journal, rounds int) error {
	all := []event{
		{"pods of a backend rolled", false, w.rollPods},
		{"Headgate killed (SIGKILL)", true, w.killHeadgate},
		{"Headgate upgraded (rolling update)", true, w.upgradeHeadgate},
		{"proxies rolled", false, w.rollProxies},
		{"a proxy deleted", false, w.deleteProxy},
	}
	for i := range rounds * len(all) {
		e := all[i%len(all)]
		if !sleep(ctx, 2*time.Second) {
			return ctx.Err()
		}
		begin := time.Now()
		seen, wait, err := e.make(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		if err := w.await(ctx, seen); err != nil {
			return fmt.Errorf("%s, begun at %s: a configuration written after that is not served: %w", e.name, begin.Format(time.TimeOnly), err)
		}
		served := time.Now()
		if err := wait(ctx); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		j.add(entry{kind: e.name, begin: begin, served: served, end: time.Now(), event: true, away: e.away})
		fmt.Fprintf(w.Out, "%s: %s\n", e.name, time.Since(begin).Round(100*time.Millisecond))
	}
	return nil
}

// pulse writes a route of its own, to see how long a configuration takes now.
func (w *world) pulse(ctx context.Context) (seen, error) {
	mark := strconv.FormatInt(time.Now().UnixNano(), 36)
	route := &gwv1.HTTPRoute{}
	route.Namespace, route.Name = w.Name, "pulse"
	err := w.patch(ctx, route, `{"spec":{"rules":[{"backendRefs":[{"name":"blue","port":80}],"filters":[{"type":"ResponseHeaderModifier",`+
		`"responseHeaderModifier":{"set":[{"name":"X-Pulse","value":"`+mark+`"}]}}]}]}}`)
	return seen{w.probe.web(80, "pulse.hitless.example", "/"), hasHeader("X-Pulse", mark)}, err
}

// restartedAt changes a pod template, as kubectl rollout restart does.
func restartedAt() string {
	return `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"` + time.Now().Format(time.RFC3339Nano) + `"}}}}}`
}

// rollPods replaces the pods of both versions; what is seen is an answer of a new one.
func (w *world) rollPods(ctx context.Context) (seen, func(context.Context) error, error) {
	var old corev1.PodList
	if err := w.Client.List(ctx, &old, client.InNamespace(w.Name)); err != nil {
		return seen{}, nil, fmt.Errorf("listing pods: %w", err)
	}
	for _, name := range []string{"blue", "green"} {
		d, err := w.deployment(ctx, w.Name, name)
		if err != nil {
			return seen{}, nil, err
		}
		if err := w.patch(ctx, d, restartedAt()); err != nil {
			return seen{}, nil, err
		}
	}
	fresh := func(s sight) bool {
		pod := s.header.Get("X-Pod")
		return s.err == nil && pod != "" && !slices.ContainsFunc(old.Items, func(p corev1.Pod) bool { return p.Name == pod })
	}
	wait := func(ctx context.Context) error {
		for _, name := range []string{"blue", "green"} {
			if err := w.WaitRolledOut(ctx, name, 2*time.Minute); err != nil {
				return err
			}
		}
		return w.waitGone(ctx, w.Name, old.Items, func(p corev1.Pod) bool { return p.Labels["app"] != "" })
	}
	return seen{w.probe.web(80, "pulse.hitless.example", "/"), fresh}, wait, nil
}

var controllerPods = client.MatchingLabels{"app.kubernetes.io/name": "headgate", "app.kubernetes.io/component": "controller"}

// killHeadgate ends its process without a word to anybody: on this machine's node by
// SIGKILL, elsewhere by deleting the pod with no grace, of which a kubelet makes a second.
func (w *world) killHeadgate(ctx context.Context) (seen, func(context.Context) error, error) {
	var pods corev1.PodList
	if err := w.Client.List(ctx, &pods, client.InNamespace(env.HeadgateNamespace), controllerPods); err != nil || len(pods.Items) == 0 {
		return seen{}, nil, fmt.Errorf("looking for the pods of Headgate: %d (%w)", len(pods.Items), err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if w.Local {
			if err := killProcess(pod); err != nil {
				return seen{}, nil, err
			}
		} else if err := w.Client.Delete(ctx, pod, client.GracePeriodSeconds(0)); err != nil {
			return seen{}, nil, fmt.Errorf("killing Headgate: %w", err)
		}
	}
	s, err := w.pulse(ctx)
	return s, func(ctx context.Context) error {
		return w.Cluster.WaitRolledOut(ctx, env.HeadgateNamespace, "headgate", 2*time.Minute)
	}, err
}

// killProcess kills the process of Headgate's container, found by the pod in its cgroup.
func killProcess(pod *corev1.Pod) error {
	folders, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return err
	}
	for _, file := range folders {
		groups, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(groups), string(pod.UID)) { // the process may be gone by now
			continue
		}
		name, err := os.ReadFile(filepath.Join(filepath.Dir(file), "comm"))
		if err != nil || strings.TrimSpace(string(name)) != "headgate" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.SIGKILL)
	}
	return fmt.Errorf("no process named headgate belongs to pod %s", pod.Name)
}

// upgradeHeadgate replaces its pods as a new version does.
func (w *world) upgradeHeadgate(ctx context.Context) (seen, func(context.Context) error, error) {
	d, err := w.deployment(ctx, env.HeadgateNamespace, "headgate")
	if err != nil {
		return seen{}, nil, err
	}
	if err := w.patch(ctx, d, restartedAt()); err != nil {
		return seen{}, nil, err
	}
	wait := func(ctx context.Context) error {
		if err := w.Cluster.WaitRolledOut(ctx, env.HeadgateNamespace, "headgate", 2*time.Minute); err != nil {
			return err
		}
		// Now the new one alone is there; what is written from here on is its work.
		s, err := w.pulse(ctx)
		if err != nil {
			return err
		}
		return w.await(ctx, s)
	}
	s, err := w.pulse(ctx)
	return s, wait, err
}

// rollProxies replaces all proxies as a new image does.
func (w *world) rollProxies(ctx context.Context) (seen, func(context.Context) error, error) {
	d, err := w.proxyDeployment(ctx)
	if err != nil {
		return seen{}, nil, err
	}
	old, err := w.proxyPods(ctx)
	if err != nil {
		return seen{}, nil, err
	}
	if err := w.patch(ctx, d, restartedAt()); err != nil {
		return seen{}, nil, err
	}
	wait := func(ctx context.Context) error {
		if err := w.WaitRolledOut(ctx, d.Name, 3*time.Minute); err != nil {
			return err
		}
		return w.waitGone(ctx, w.Name, old, func(p corev1.Pod) bool { return true })
	}
	s, err := w.pulse(ctx)
	return s, wait, err
}

// deleteProxy deletes one proxy, as draining its node does.
func (w *world) deleteProxy(ctx context.Context) (seen, func(context.Context) error, error) {
	d, err := w.proxyDeployment(ctx)
	if err != nil {
		return seen{}, nil, err
	}
	pods, err := w.proxyPods(ctx)
	if err != nil || len(pods) == 0 {
		return seen{}, nil, fmt.Errorf("looking for a proxy: %d (%w)", len(pods), err)
	}
	if err := w.Client.Delete(ctx, &pods[0]); err != nil {
		return seen{}, nil, fmt.Errorf("deleting a proxy: %w", err)
	}
	wait := func(ctx context.Context) error {
		if err := w.waitGone(ctx, w.Name, pods[:1], func(corev1.Pod) bool { return true }); err != nil {
			return err
		}
		return w.WaitRolledOut(ctx, d.Name, 2*time.Minute)
	}
	s, err := w.pulse(ctx)
	return s, wait, err
}

func (w *world) proxyPods(ctx context.Context) ([]corev1.Pod, error) {
	var pods corev1.PodList
	err := w.Client.List(ctx, &pods, client.InNamespace(w.Name), client.MatchingLabels{gatewayLabel: "front"})
	if err != nil {
		return nil, fmt.Errorf("listing proxies: %w", err)
	}
	return pods.Items, nil
}

// waitGone waits until the pods that count are gone, and with them what they still did.
func (w *world) waitGone(ctx context.Context, namespace string, old []corev1.Pod, counts func(corev1.Pod) bool) error {
	return w.Wait(ctx, "the former pods to be gone", 3*time.Minute, func(ctx context.Context) (bool, string, error) {
		var now corev1.PodList
		if err := w.Client.List(ctx, &now, client.InNamespace(namespace)); err != nil {
			return false, "", err
		}
		left := slices.DeleteFunc(now.Items, func(p corev1.Pod) bool {
			return !counts(p) || !slices.ContainsFunc(old, func(o corev1.Pod) bool { return o.UID == p.UID })
		})
		return len(left) == 0, fmt.Sprintf("%d are left", len(left)), nil
	})
}
