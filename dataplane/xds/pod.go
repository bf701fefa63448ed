// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"regexp"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
	appsv1 "k8s.io/api/apps/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// endpointMetadata is where an endpoint says which pod it is, for the access log.
const endpointMetadata = "headgate"

// ofReplicaSet is the name of a pod of a ReplicaSet: <workload>-<pod-template-hash>-<random>,
// the last two in the alphabet that Kubernetes has for them (k8s.io/apimachinery/pkg/util/rand).
var ofReplicaSet = regexp.MustCompile(`-([bcdfghjklmnpqrstvwxz2456789]{1,10})-[bcdfghjklmnpqrstvwxz2456789]{5}$`)

// podOf is the metadata of an endpoint that is a pod: its name and, of a Deployment's or a
// release's, its version, the pod-template-hash. EndpointSlices do not carry labels of pods.
func podOf(e *discoveryv1.Endpoint) *corev3.Metadata {
	if e.TargetRef == nil || e.TargetRef.Kind != "Pod" || e.TargetRef.Name == "" {
		return nil
	}
	version := ""
	if found := ofReplicaSet.FindStringSubmatch(e.TargetRef.Name); found != nil {
		version = found[1]
	}
	return podMetadata(e.TargetRef.Name, version)
}

// versionLabel on a pod tells the versions of its Deployment apart.
const versionLabel = appsv1.DefaultDeploymentUniqueLabelKey

func podMetadata(name, version string) *corev3.Metadata {
	fields := map[string]*structpb.Value{"pod": structpb.NewStringValue(name)}
	if version != "" {
		fields["version"] = structpb.NewStringValue(version)
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{endpointMetadata: {Fields: fields}}}
}
