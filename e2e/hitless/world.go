// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/e2e/env"
	"headgate.dev/headgate/e2e/load"
)

//go:embed hitless.yaml
var manifest string

// Hosts of the load.
const (
	webHost  = "web.hitless.example"
	callHost = "calls.hitless.example"
)

// gatewayLabel is what the Gateway API wants on everything that belongs to a Gateway.
const gatewayLabel = "gateway.networking.k8s.io/gateway-name"

// proxies is how many each Gateway has here: with one, nothing could differ between them.
const proxies = 2

// world is what the changes are made to, with what they have made of it.
type world struct {
	*env.Space
	// address is where the Gateway is reached.
	address   string
	authority *authority
	roots     *x509.CertPool
	probe     *probe

	// n counts the writes; it is what a probe looks for.
	n int
	// web and calls are the routes under load.
	web, calls routeState
	// listeners and routes count what came and had to go again; aside is the serial
	// number of the certificate of listeners that come and go.
	listeners, routes, aside int
}

// open builds the world and waits until all of it answers.
func open(ctx context.Context, space *env.Space) (*world, error) {
	authority, err := newAuthority()
	if err != nil {
		return nil, err
	}
	w := &world{Space: space, authority: authority, roots: authority.pool()}
	image, err := w.Image(ctx, "app")
	if err != nil {
		return nil, err
	}
	documents := manifest
	for _, name := range []string{"blue", "green"} {
		documents += "---\n" + env.App{Name: name, Replicas: 2, Version: name}.Manifest(image)
	}
	for _, name := range []string{"front", "aside"} {
		if err := w.rotate(ctx, name); err != nil {
			return nil, err
		}
	}
	w.aside = w.n
	if err := w.Apply(ctx, documents); err != nil {
		return nil, err
	}
	w.web = routeState{kind: "HTTPRoute", name: "web", host: webHost, services: [2]string{"blue", "green"}, weight: 100}
	w.calls = routeState{kind: "GRPCRoute", name: "calls", host: callHost, services: [2]string{"blue", "green"}, weight: 100}
	for _, r := range []*routeState{&w.web, &w.calls} {
		if err := w.apply(ctx, r); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"blue", "green"} {
		if err := w.WaitRolledOut(ctx, name, time.Minute); err != nil {
			return nil, err
		}
	}
	if w.address, err = w.WaitProgrammed(ctx, "front", time.Minute); err != nil {
		return nil, err
	}
	w.probe = newProbe(w.address, w.roots)
	if err := w.scaleProxies(ctx); err != nil {
		return nil, err
	}
	return w, w.waitAnswers(ctx)
}

// proxyDeployment finds the Gateway's proxies by the label that the Gateway API
// wants on them.
func (w *world) proxyDeployment(ctx context.Context) (*appsv1.Deployment, error) {
	var list appsv1.DeploymentList
	err := w.Client.List(ctx, &list, client.InNamespace(w.Name), client.MatchingLabels{gatewayLabel: "front"})
	if err != nil || len(list.Items) != 1 {
		return nil, fmt.Errorf("looking for the proxies of Gateway front: %d Deployments (%w)", len(list.Items), err)
	}
	return &list.Items[0], nil
}

func (w *world) deployment(ctx context.Context, namespace, name string) (*appsv1.Deployment, error) {
	d := &appsv1.Deployment{}
	if err := w.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, d); err != nil {
		return nil, fmt.Errorf("reading Deployment %s: %w", name, err)
	}
	return d, nil
}

func (w *world) scaleProxies(ctx context.Context) error {
	d, err := w.proxyDeployment(ctx)
	if err != nil {
		return err
	}
	if err := w.patch(ctx, d, fmt.Sprintf(`{"spec":{"replicas":%d}}`, proxies)); err != nil {
		return err
	}
	return w.WaitRolledOut(ctx, d.Name, time.Minute)
}

// waitAnswers waits until every load would be served.
func (w *world) waitAnswers(ctx context.Context) error {
	for _, l := range w.loads(100) {
		err := w.Wait(ctx, l.name+" to be answered", 30*time.Second, func(ctx context.Context) (bool, string, error) {
			o := l.options
			o.Duration = 300 * time.Millisecond
			report, err := load.Do(ctx, o)
			if err != nil {
				return false, "", err
			}
			return report.Requests > 0 && len(report.Failures) == 0, report.String(), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type namedLoad struct {
	name    string
	options load.Options
}

// loads are the protocols of the load, with their shares of a rate.
func (w *world) loads(rate float64) []namedLoad {
	of := func(name, scheme, host string, protocol load.Protocol, share float64) namedLoad {
		return namedLoad{name, load.Options{
			URL: scheme + "://" + w.address + "/", Host: host, Roots: w.roots, Protocol: protocol, Rate: rate * share, Duration: time.Hour,
		}}
	}
	return []namedLoad{
		of("HTTP/1.1", "http", webHost, load.HTTP1, 0.3),
		of("HTTP/2", "http", webHost, load.H2C, 0.2),
		of("gRPC", "http", callHost, load.GRPC, 0.2),
		of("HTTPS/1.1", "https", webHost, load.HTTP1, 0.15),
		of("HTTPS/2", "https", webHost, load.H2, 0.15),
	}
}

// visitors are the loads that run.
type visitors struct {
	begin time.Time
	runs  []*load.Run
	names []string
}

type namedReport struct {
	name   string
	report load.Report
}

func (w *world) visit(ctx context.Context, rate float64) (*visitors, error) {
	v := &visitors{begin: time.Now()}
	for _, l := range w.loads(rate) {
		run, err := load.Begin(ctx, l.options)
		if err != nil {
			v.stop()
			return nil, err
		}
		v.runs, v.names = append(v.runs, run), append(v.names, l.name)
	}
	return v, nil
}

// stop ends the loads. It may be called again.
func (v *visitors) stop() []namedReport {
	reports := make([]namedReport, 0, len(v.runs))
	for i, run := range v.runs {
		reports = append(reports, namedReport{v.names[i], run.Stop()})
	}
	return reports
}

func (w *world) patch(ctx context.Context, o client.Object, patch string) error {
	if err := w.Client.Patch(ctx, o, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		return fmt.Errorf("changing %T %s: %w", o, o.GetName(), err)
	}
	return nil
}

// rotate writes a new key pair into a TLS Secret.
func (w *world) rotate(ctx context.Context, secret string) error {
	w.n++
	cert, key, err := w.authority.issue(int64(w.n), "*.hitless.example")
	if err != nil {
		return err
	}
	return w.Apply(ctx, fmt.Sprintf("apiVersion: v1\nkind: Secret\ntype: %s\nmetadata: {name: %s}\ndata: {tls.crt: %s, tls.key: %s}\n",
		corev1.SecretTypeTLS, secret, base64.StdEncoding.EncodeToString(cert), base64.StdEncoding.EncodeToString(key)))
}

func jsonOf(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic("what is written here can be written as JSON: " + err.Error())
	}
	return string(data)
}
