// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"headgate.dev/headgate/api/v1beta1"
)

func TestAnEndpointSaysWhichPodItIs(t *testing.T) {
	for _, row := range []struct {
		name         string
		ref          *corev1.ObjectReference
		pod, version string
	}{
		{"a Deployment's", &corev1.ObjectReference{Kind: "Pod", Name: "web-7d9f8b6c5-x2bcd"}, "web-7d9f8b6c5-x2bcd", "7d9f8b6c5"},
		{"a StatefulSet's has no version", &corev1.ObjectReference{Kind: "Pod", Name: "db-0"}, "db-0", ""},
		{"a bare one has no version", &corev1.ObjectReference{Kind: "Pod", Name: "the-web-server"}, "the-web-server", ""},
		{"no pod", &corev1.ObjectReference{Kind: "Node", Name: "n1"}, "", ""},
		{"nothing known", nil, "", ""},
	} {
		fields := podOf(&discoveryv1.Endpoint{TargetRef: row.ref}).GetFilterMetadata()[endpointMetadata].GetFields()
		if pod, version := fields["pod"].GetStringValue(), fields["version"].GetStringValue(); pod != row.pod || version != row.version {
			t.Errorf("%s: pod %q, version %q", row.name, pod, version)
		}
	}
}

func TestTheShareOfRequestsThatAreLogged(t *testing.T) {
	for _, row := range []struct {
		log  *v1beta1.AccessLog
		want uint32
	}{
		{nil, 1_000_000},
		{&v1beta1.AccessLog{}, 1_000_000},
		{&v1beta1.AccessLog{Sample: "100%"}, 1_000_000},
		{&v1beta1.AccessLog{Sample: "0.5%"}, 5_000},
		{&v1beta1.AccessLog{Sample: "0.0001%"}, 1},
		{&v1beta1.AccessLog{Sample: "0%"}, 0},
		{&v1beta1.AccessLog{Format: v1beta1.AccessLogOff, Sample: "50%"}, 0},
	} {
		if got := loggedParts(row.log); got != row.want {
			t.Errorf("%+v: %d of a million, want %d", row.log, got, row.want)
		}
	}
}
