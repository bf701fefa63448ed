// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/infra"
	"headgate.dev/headgate/dataplane/served"
)

// patience is how long a proxy may take to answer its administrator.
const patience = 30 * time.Second

// proxies are the pods of a Gateway's proxies that are not leaving, by name.
func (c *cluster) proxies(ctx context.Context, gateway types.NamespacedName) ([]corev1.Pod, error) {
	list, err := c.core.CoreV1().Pods(gateway.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.Set(infra.PodLabels(gateway.Name)).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("listing the proxies of Gateway %s: %w", gateway, err)
	}
	var pods []corev1.Pod
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

// servedBy reads the configuration of one running proxy.
func (c *cluster) servedBy(ctx context.Context, pod corev1.Pod) (served.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	forward, err := c.forward(ctx, pod)
	if err != nil {
		return served.Config{}, err
	}
	defer forward.close()
	dump, err := forward.get(ctx, served.DumpPath)
	if err != nil {
		return served.Config{}, err
	}
	runtime, err := forward.get(ctx, served.RuntimePath)
	if err != nil {
		return served.Config{}, err
	}
	return served.ReadDump(dump, runtime)
}

// forwarding is a port of loopback that leads to a proxy's admin interface, which
// listens on loopback of its pod only.
type forwarding struct {
	address string
	close   func()
	failed  <-chan error
}

func (c *cluster) forward(ctx context.Context, pod corev1.Pod) (*forwarding, error) {
	dialer, err := c.dialer(pod)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ready, failed := make(chan struct{}), make(chan error, 1)
	var said bytes.Buffer
	ports := []string{"0:" + strconv.Itoa(graph.AdminPort)}
	forwarder, err := portforward.NewOnAddressesForStreamingWithContext(ctx, dialer, []string{"127.0.0.1"}, ports, ready, io.Discard, &said)
	if err != nil {
		cancel()
		return nil, err
	}
	go func() { failed <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-failed:
		cancel()
		return nil, fmt.Errorf("reaching pod %s/%s: %w", pod.Namespace, pod.Name, err)
	case <-ctx.Done():
		cancel()
		return nil, fmt.Errorf("reaching pod %s/%s: no answer within %s", pod.Namespace, pod.Name, patience)
	}
	local, err := forwarder.GetPorts()
	if err != nil {
		cancel()
		return nil, err
	}
	return &forwarding{address: fmt.Sprintf("127.0.0.1:%d", local[0].Local), close: cancel, failed: failed}, nil
}

// dialer speaks the protocol of kubectl port-forward: over WebSocket, or where the
// API server or something before it does not take that, over SPDY.
func (c *cluster) dialer(pod corev1.Pod) (httpstream.Dialer, error) {
	url := c.core.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(c.config)
	if err != nil {
		return nil, err
	}
	old := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	websocket, err := portforward.NewSPDYOverWebsocketDialerForStreaming(url, c.config)
	if err != nil {
		return nil, err
	}
	return portforward.NewFallbackDialerForStreaming(websocket, old, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	}), nil
}

func (f *forwarding) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.address+path, nil)
	if err != nil {
		return nil, err
	}
	// Not through a proxy of the environment: it is this machine.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		select {
		case failed := <-f.failed:
			err = errors.Join(err, failed)
		default:
		}
		return nil, fmt.Errorf("asking the proxy for %s: %w", path, err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("the proxy answers %s to %s: %s", answer.Status, path, strings.TrimSpace(string(body)))
	}
	return body, err
}
