// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
)

// options is everything the flags say. It is read once, here, and passed on as
// typed fields.
type options struct {
	namespace       string
	podName         string
	podIPs          []string
	watchNamespaces []string
	leaderElect     bool
	metricsAddress  string
	probeAddress    string
	logLevel        string
	logFormat       string

	prometheusAddress string
	serviceAccount    string

	gatewayEnabled bool
	xdsAddress     string
	xdsService     string
	proxyImage     string
	headgateImage  string
	externalNames  bool
}

// bind declares the flags. Defaults that come from the pod arrive through env,
// so that the chart can pass them by the downward API.
func (o *options) bind(f *pflag.FlagSet, env func(string) string) {
	f.StringVar(&o.namespace, "namespace", env("POD_NAMESPACE"), "namespace Headgate runs in (default: $POD_NAMESPACE)")
	f.StringVar(&o.podName, "pod-name", env("POD_NAME"), "pod Headgate runs in (default: $POD_NAME)")
	f.StringSliceVar(&o.podIPs, "pod-ips", strings.FieldsFunc(env("POD_IPS"), func(r rune) bool { return r == ',' }),
		"IP addresses of the pod Headgate runs in; proxies listen on IPv6 when one of them is (default: $POD_IPS)")
	f.StringSliceVar(&o.watchNamespaces, "watch-namespaces", nil, "namespaces whose Canaries and routes are served; empty: all")
	f.BoolVar(&o.leaderElect, "leader-elect", true, "elect one leader among the replicas")
	f.StringVar(&o.metricsAddress, "metrics-bind-address", ":8080", "address of the metrics endpoint; 0 turns it off")
	f.StringVar(&o.probeAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "json", "json or text")

	f.StringVar(&o.prometheusAddress, "prometheus-address", "", "Prometheus that scrapes the proxies, for example http://prometheus.monitoring:9090; empty: metrics say Unknown unless a Canary names its own")
	f.StringVar(&o.serviceAccount, "service-account", "headgate", "service account Headgate runs as; its writes pass the hold on Deployments")

	f.BoolVar(&o.gatewayEnabled, "gateway-enabled", true, "serve Gateways of class headgate; false: the operator half alone")
	f.StringVar(&o.xdsAddress, "xds-bind-address", ":18000", "address on which proxies are configured")
	f.StringVar(&o.xdsService, "xds-service", "headgate-xds", "Service in Headgate's namespace that leads proxies to the leader")
	f.StringVar(&o.proxyImage, "proxy-image", "envoyproxy/envoy:distroless-v1.40.0", "image of the proxies")
	f.BoolVar(&o.externalNames, "external-name-services", false, "let routes send to Services of type ExternalName: who may create a Service can then send requests to any host that the proxies reach")
	f.StringVar(&o.headgateImage, "headgate-image", "", "image of Headgate itself, used by the proxies' shutdown sidecar; required with --gateway-enabled")
}

// validate names every flag that cannot be used, with what to write instead.
func (o *options) validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.namespace == "" {
		wrong("--namespace is empty: give the namespace Headgate runs in, or set POD_NAMESPACE")
	}
	if o.podName == "" && o.leaderElect {
		wrong("--pod-name is empty: give the pod Headgate runs in, or set POD_NAME")
	}
	for _, ip := range o.podIPs {
		if _, err := netip.ParseAddr(ip); err != nil {
			wrong("--pod-ips has %q, which is not an IP address: leave it out, or set POD_IPS from status.podIPs", ip)
		}
	}
	for _, a := range []struct{ flag, value string }{
		{"--metrics-bind-address", o.metricsAddress},
		{"--health-probe-bind-address", o.probeAddress},
		{"--xds-bind-address", o.xdsAddress},
	} {
		if a.value == "0" && a.flag == "--metrics-bind-address" {
			continue
		}
		if _, _, err := net.SplitHostPort(a.value); err != nil {
			wrong("%s=%q is not an address: write host:port, or :port for every interface", a.flag, a.value)
		}
	}
	if u, err := url.Parse(o.prometheusAddress); o.prometheusAddress != "" &&
		(err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		wrong("--prometheus-address=%q is not a URL: write http://host:port or https://host:port", o.prometheusAddress)
	}
	if o.gatewayEnabled && o.headgateImage == "" {
		wrong("--headgate-image is empty: give the image Headgate runs from, or turn the gateway off with --gateway-enabled=false")
	}
	if o.gatewayEnabled && o.proxyImage == "" {
		wrong("--proxy-image is empty: give an image of Envoy, for example envoyproxy/envoy:distroless-v1.40.0")
	}
	if _, err := o.logger(io.Discard); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ipv6 tells whether pods of the cluster have IPv6 addresses: Headgate's own does then.
func (o *options) ipv6() bool {
	return slices.ContainsFunc(o.podIPs, func(s string) bool {
		ip, err := netip.ParseAddr(s)
		return err == nil && ip.Is6()
	})
}

// logger builds the logger that --log-level and --log-format ask for.
func (o *options) logger(w io.Writer) (logr.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(o.logLevel))); err != nil {
		return logr.Logger{}, fmt.Errorf("--log-level=%q is not a level: write debug, info, warn or error", o.logLevel)
	}
	settings := &slog.HandlerOptions{Level: level}
	switch o.logFormat {
	case "json":
		return logr.FromSlogHandler(slog.NewJSONHandler(w, settings)), nil
	case "text":
		return logr.FromSlogHandler(slog.NewTextHandler(w, settings)), nil
	}
	return logr.Logger{}, fmt.Errorf("--log-format=%q is not a format: write json or text", o.logFormat)
}
