// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestFlagsSayWhatToWriteInstead(t *testing.T) {
	pod := map[string]string{"POD_NAMESPACE": "headgate-system", "POD_NAME": "headgate-0"}
	tests := []struct {
		name string
		env  map[string]string
		args []string
		// want is part of the error; empty: the flags are accepted.
		want string
	}{
		{"the chart's flags are accepted", pod, []string{"--headgate-image=headgate/headgate:dev"}, ""},
		{"the operator half alone needs no image", pod, []string{"--gateway-enabled=false"}, ""},
		{"metrics can be turned off", pod, []string{"--gateway-enabled=false", "--metrics-bind-address=0"}, ""},
		{"a namespace is needed", nil, []string{"--gateway-enabled=false", "--pod-name=p"}, "set POD_NAMESPACE"},
		{"a pod is needed to be leader", nil, []string{"--gateway-enabled=false", "--namespace=n"}, "set POD_NAME"},
		{"an image is needed for the proxies' sidecar", pod, nil, "--gateway-enabled=false"},
		{"an address is host and port", pod, []string{"--xds-bind-address=18000", "--gateway-enabled=false"}, ":port for every interface"},
		{"the pod's addresses are taken", map[string]string{"POD_NAMESPACE": "n", "POD_NAME": "p", "POD_IPS": "10.0.0.7,fd00::7"}, []string{"--gateway-enabled=false"}, ""},
		{"and only addresses", pod, []string{"--pod-ips=localhost", "--gateway-enabled=false"}, "which is not an IP address"},
		{"Prometheus is a URL", pod, []string{"--prometheus-address=prometheus:9090", "--gateway-enabled=false"}, "write http://host:port"},
		{"levels are listed", pod, []string{"--log-level=loud", "--gateway-enabled=false"}, "debug, info, warn or error"},
		{"formats are listed", pod, []string{"--log-format=xml", "--gateway-enabled=false"}, "json or text"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var o options
			f := pflag.NewFlagSet("headgate", pflag.ContinueOnError)
			o.bind(f, func(k string) string { return tt.env[k] })
			if err := f.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			err := o.validate()
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("validate() = %v, want no error", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("validate() = %v, want an error that says %q", err, tt.want)
			}
		})
	}
}

func TestIPv6IsWhatThePodHas(t *testing.T) {
	for ips, want := range map[string]bool{"": false, "10.0.0.7": false, "10.0.0.7,fd00::7": true, "fd00::7": true} {
		var o options
		o.bind(pflag.NewFlagSet("headgate", pflag.ContinueOnError), func(k string) string { return map[string]string{"POD_IPS": ips}[k] })
		if got := o.ipv6(); got != want {
			t.Errorf("with addresses %q: %v, want %v", ips, got, want)
		}
	}
}
