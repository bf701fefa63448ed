// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"headgate.dev/headgate/e2e/cluster/internal/images"
	"headgate.dev/headgate/e2e/cluster/internal/layout"
	"headgate.dev/headgate/e2e/cluster/internal/process"
	"headgate.dev/headgate/e2e/cluster/internal/programs"
)

// bringUp is one start of components.
type bringUp struct {
	node  Node
	table process.Table
	// ended closes when a component that was started here ends.
	ended map[string]<-chan struct{}
}

// until calls check until it succeeds. It gives up when ctx ends, when limit is
// over, and at once when a component that was started here has ended: the error
// then carries the end of its log.
func (b bringUp) until(ctx context.Context, what string, limit time.Duration, check func(context.Context) error) error {
	begin := time.Now()
	var err error
	for {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		now := check(attempt)
		cancel()
		if now == nil {
			fmt.Fprintf(b.node.Out, "%-34s %6.1fs\n", what, time.Since(begin).Seconds())
			return nil
		}
		// What the last attempt says when ctx cut it off explains nothing.
		if err == nil || ctx.Err() == nil {
			err = now
		}
		for name, ended := range b.ended {
			select {
			case <-ended:
				return fmt.Errorf("%s ended while waiting for %s (%w); the end of %s:\n%s",
					name, what, err, b.table.LogFile(name), b.table.Tail(name, 15))
			default:
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("waiting for %s: %w; last seen: %w", what, context.Cause(ctx), err)
		}
		if time.Since(begin) > limit {
			return fmt.Errorf("waited %s for %s; last seen: %w; logs are in %s", limit, what, err, b.node.Layout.Logs())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (b bringUp) loadImages(ctx context.Context, p plan) error {
	runtime := images.Containerd{Ctr: filepath.Join(p.bin.Containerd, "ctr"), Socket: b.node.Layout.ContainerdSocket()}
	err := b.until(ctx, "containerd", time.Minute, func(ctx context.Context) error {
		return tryDial(ctx, "unix", runtime.Socket)
	})
	if err != nil {
		return err
	}
	return runtime.Load(ctx, p.preload, b.node.Out)
}

func (b bringUp) waitControlPlane(ctx context.Context) error {
	return b.until(ctx, "API server", 2*time.Minute, func(ctx context.Context) error {
		client, err := b.node.Client()
		if err != nil {
			return err
		}
		return ready(ctx, client)
	})
}

func (b bringUp) waitNode(ctx context.Context) error {
	return b.until(ctx, "node Ready", 2*time.Minute, func(ctx context.Context) error {
		client, err := b.node.Client()
		if err != nil {
			return err
		}
		if err := nodeReady(ctx, client); err != nil {
			return err
		}
		return componentsHealthy(ctx)
	})
}

func (b bringUp) waitDNS(ctx context.Context, p plan) error {
	err := b.until(ctx, "CoreDNS applied", time.Minute, func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, filepath.Join(p.bin.Kubernetes, "kubectl"), "--kubeconfig", b.node.Layout.Kubeconfig(),
			"apply", "--server-side", "--force-conflicts", "--field-manager=headgate-cluster", "-f", "-")
		cmd.Stdin = strings.NewReader(p.dns)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("applying CoreDNS: %w: %s", err, strings.TrimSpace(string(out)))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.until(ctx, "DNS answers", 2*time.Minute, dnsAnswers)
}

// Client connects as administrator.
func (n Node) Client() (kubernetes.Interface, error) {
	config, err := n.RESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// RESTConfig is how to connect as administrator.
func (n Node) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", n.Layout.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("reading the node's kubeconfig (is it up?): %w", err)
	}
	return config, nil
}

// healthy checks from outside that the whole node works, in a fraction of a
// second when it does.
func (n Node) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	client, err := n.Client()
	if err != nil {
		return err
	}
	if err := ready(ctx, client); err != nil {
		return err
	}
	if err := nodeReady(ctx, client); err != nil {
		return err
	}
	if err := componentsHealthy(ctx); err != nil {
		return err
	}
	return dnsAnswers(ctx)
}

func ready(ctx context.Context, client kubernetes.Interface) error {
	if err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return fmt.Errorf("the API server is not ready: %w", err)
	}
	return nil
}

// nodeReady checks the node's condition and, because that would still show what a
// kubelet said before it was killed, the kubelet itself through the API server.
func nodeReady(ctx context.Context, client kubernetes.Interface) error {
	node, err := client.CoreV1().Nodes().Get(ctx, layout.NodeName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading the node: %w", err)
	}
	ready := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	if ready < 0 {
		return errors.New("the kubelet has not reported yet")
	}
	if c := node.Status.Conditions[ready]; c.Status != corev1.ConditionTrue {
		return fmt.Errorf("the node is not Ready: %s", c.Message)
	}
	err = client.CoreV1().RESTClient().Get().Resource("nodes").Name(layout.NodeName).SubResource("proxy").Suffix("healthz").Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("the kubelet does not answer: %w", err)
	}
	return nil
}

// componentHealth are addresses where components say themselves that they work.
// They need no credentials, and the certificates are made up at every start.
var componentHealth = map[string]string{
	"kube-controller-manager": "https://" + layout.NodeIP.String() + ":10257/healthz",
	"kube-scheduler":          "https://" + layout.NodeIP.String() + ":10259/healthz",
	"kube-proxy":              "http://" + layout.NodeIP.String() + ":10256/healthz",
}

func componentsHealthy(ctx context.Context) error {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a health check of a local process
	}}
	for name, url := range componentHealth {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return fmt.Errorf("%s does not answer: %w", name, err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s is not healthy: %s", name, response.Status)
		}
	}
	return nil
}

// dnsAnswers asks the cluster DNS through its Service address: the answer proves
// the machine's routes, kube-proxy, the pod network and CoreDNS.
func dnsAnswers(ctx context.Context) error {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "udp", net.JoinHostPort(layout.DNSIP.String(), "53"))
	}}
	addresses, err := resolver.LookupHost(ctx, "kubernetes.default.svc.cluster.local.")
	if err != nil {
		return fmt.Errorf("cluster DNS does not answer: %w", err)
	}
	if len(addresses) != 1 || addresses[0] != layout.APIServiceIP.String() {
		return fmt.Errorf("cluster DNS says that kubernetes.default is %v, not %s", addresses, layout.APIServiceIP)
	}
	return nil
}

func tryDial(ctx context.Context, network, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// Load imports images into the running node.
func (n Node) Load(ctx context.Context, list []images.Image) error {
	found, err := programs.Named("containerd")
	if err != nil {
		return err
	}
	dir, err := n.Images.Builder.Ensure(ctx, found[0])
	if err != nil {
		return err
	}
	runtime := images.Containerd{Ctr: filepath.Join(dir, "ctr"), Socket: n.Layout.ContainerdSocket()}
	if err := tryDial(ctx, "unix", runtime.Socket); err != nil {
		return fmt.Errorf("the node is not up, run `up` first: %w", err)
	}
	return runtime.Load(ctx, list, n.Out)
}
