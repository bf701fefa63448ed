// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package infra turns a Gateway of the graph into the Kubernetes objects that run
// its proxies, all of them in the Gateway's namespace and owned by it:
//
//	Gateway ─▶ Service ─▶ Deployment ─ pod ─ envoy            ◀─ ConfigMap (bootstrap)
//	             │        or DaemonSet       shutdown-manager ◀─ Secret (client certificate)
//	          listeners'      │
//	            ports      ServiceAccount, PodDisruptionBudget, HorizontalPodAutoscaler
//
// How they run is what the Gateway's ProxyConfig says, over that of its class, over
// Defaults.
//
// Nothing in the pod depends on the listeners, so that a listener that comes or
// goes changes the Service alone and restarts no pod.
package infra

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
)

// Options are what the objects of every Gateway have in common, and the secrets
// of one.
type Options struct {
	// HeadgateImage is the image of the shutdown manager.
	HeadgateImage string
	// Proxy is how the proxies run; every field that Defaults sets is set.
	Proxy v1beta1.ProxyConfigSpec
	// Files are Envoy's static configuration and what it refers to, by name: they
	// are mounted at ConfigDir, and BootstrapFile is the one Envoy starts with.
	Files map[string][]byte
	// Certificate, Key and Authority are PEM: what the proxies show to the control
	// plane, and whom they trust.
	Certificate, Key, Authority []byte
}

// CertDir is where the client certificate is mounted in the proxy's container.
const CertDir = "/var/run/headgate/tls"

// Keys of the client certificate's Secret, also the names of the files in CertDir.
const (
	CertFile      = corev1.TLSCertKey
	KeyFile       = corev1.TLSPrivateKeyKey
	AuthorityFile = "ca.crt"
)

// Objects run the proxies of one Gateway.
type Objects struct {
	ServiceAccount *corev1.ServiceAccount
	ConfigMap      *corev1.ConfigMap
	Secret         *corev1.Secret
	// Deployment or DaemonSet runs the pods; the other is nil.
	Deployment *appsv1.Deployment
	DaemonSet  *appsv1.DaemonSet
	Service    *corev1.Service
	// Budget is nil with a DaemonSet, Autoscaler where nobody asks for it.
	Budget     *policyv1.PodDisruptionBudget
	Autoscaler *autoscalingv2.HorizontalPodAutoscaler
}

// All are the objects in the order in which they should be applied: what a pod
// needs comes before the pod.
func (o Objects) All() []client.Object {
	all := []client.Object{o.ServiceAccount, o.ConfigMap, o.Secret}
	if o.Deployment != nil {
		all = append(all, o.Deployment)
	}
	if o.DaemonSet != nil {
		all = append(all, o.DaemonSet)
	}
	all = append(all, o.Service)
	if o.Budget != nil {
		all = append(all, o.Budget)
	}
	if o.Autoscaler != nil {
		all = append(all, o.Autoscaler)
	}
	return all
}

// For gives the objects of a Gateway with at least one valid listener.
func For(gw *graph.Gateway, o Options) Objects {
	out := Objects{
		ServiceAccount: &corev1.ServiceAccount{
			TypeMeta: typeMeta("v1", "ServiceAccount"), ObjectMeta: objectMeta(gw),
			AutomountServiceAccountToken: new(false),
		},
		ConfigMap: &corev1.ConfigMap{
			TypeMeta: typeMeta("v1", "ConfigMap"), ObjectMeta: objectMeta(gw),
			Data: texts(o.Files),
		},
		Secret: &corev1.Secret{
			TypeMeta: typeMeta("v1", "Secret"), ObjectMeta: objectMeta(gw), Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{CertFile: o.Certificate, KeyFile: o.Key, AuthorityFile: o.Authority},
		},
		Service: service(gw, o.Proxy.Service),
	}
	if o.Proxy.Workload == v1beta1.WorkloadDaemonSet {
		out.DaemonSet = daemonSet(gw, o)
		return out
	}
	out.Deployment = deployment(gw, o)
	out.Budget = budget(gw, o.Proxy.DisruptionBudget)
	out.Autoscaler = autoscaler(gw, o.Proxy.Autoscaling)
	return out
}

// texts are files as a ConfigMap keeps them.
func texts(files map[string][]byte) map[string]string {
	out := make(map[string]string, len(files))
	for name, content := range files {
		out[name] = string(content)
	}
	return out
}

func typeMeta(apiVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
}

// Name is the name of every object of a Gateway: <gateway>-<class>, as GEP-1762
// recommends, made to fit a DNS label.
func Name(gateway types.NamespacedName, class string) string {
	name := gateway.Name + "-" + class
	label := strings.ReplaceAll(name, ".", "-")
	if label[0] >= '0' && label[0] <= '9' { // a Service's name begins with a letter
		label = "gw-" + label
	}
	if label == name && len(label) <= validLabel {
		return label
	}
	return shorten(label, name)
}

// validLabel is the longest DNS label and label value.
const validLabel = 63

// shorten cuts label to fit, and makes it unique by a hash of the full name.
func shorten(label, full string) string {
	sum := sha256.Sum256([]byte(full))
	suffix := "-" + hex.EncodeToString(sum[:5])
	if len(label) > validLabel-len(suffix) {
		label = strings.TrimRight(label[:validLabel-len(suffix)], "-.")
	}
	return label + suffix
}

// labelValue makes a name fit a label's value; Gateway names can be longer.
func labelValue(name string) string {
	if len(name) <= validLabel {
		return name
	}
	return shorten(name, name)
}

// PodLabels are on the pods of the proxies of the Gateway of that name, and on no
// others of its namespace.
func PodLabels(gateway string) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name": "headgate-proxy",
		gwv1.GatewayNameLabelKey: labelValue(gateway),
	}
}

// selector picks the pods of a Gateway.
func selector(gw *graph.Gateway) map[string]string { return PodLabels(gw.Key.Name) }

// labels are ours over those that the Gateway's owner asks for.
func labels(gw *graph.Gateway) map[string]string {
	out := map[string]string{}
	if infra := gw.Source.Spec.Infrastructure; infra != nil {
		for k, v := range infra.Labels {
			out[string(k)] = string(v)
		}
	}
	maps.Copy(out, selector(gw))
	out[v1beta1.LabelManagedBy] = v1beta1.ManagedBy
	out[gwv1.GatewayClassNameLabelKey] = labelValue(string(gw.Source.Spec.GatewayClassName))
	return out
}

func annotations(gw *graph.Gateway) map[string]string {
	infra := gw.Source.Spec.Infrastructure
	if infra == nil || len(infra.Annotations) == 0 {
		return nil
	}
	out := map[string]string{}
	for k, v := range infra.Annotations {
		out[string(k)] = string(v)
	}
	return out
}

func objectMeta(gw *graph.Gateway) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace:   gw.Key.Namespace,
		Name:        Name(gw.Key, string(gw.Source.Spec.GatewayClassName)),
		Labels:      labels(gw),
		Annotations: annotations(gw),
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: gwv1.GroupVersion.String(), Kind: "Gateway", Name: gw.Key.Name, UID: gw.Source.UID,
			Controller: new(true),
		}},
	}
}
