// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package infra

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
)

const (
	// ConfigDir is where Options.Files are mounted.
	ConfigDir = "/etc/headgate"
	// BootstrapFile is the one of Options.Files that Envoy reads first.
	BootstrapFile = "bootstrap.json"
	// proxyContainer is the container that Envoy runs in.
	proxyContainer = "envoy"
	// nonroot is the user of the distroless images.
	nonroot = 65532
	// AnnotationBootstrap on a pod is the hash of its bootstrap: a pod reads it
	// once, so that a changed one needs a new pod.
	AnnotationBootstrap = "headgate.dev/bootstrap"
	// DrainTokenHeader carries the token that the shutdown manager asks for, so
	// that only the kubelet, which reads it from the pod, can drain a proxy.
	DrainTokenHeader = "Headgate-Drain-Token"
	// DrainPath is where the shutdown manager waits for the kubelet.
	DrainPath = "/drain"
	// DrainTokenEnv hands the token to the shutdown manager.
	DrainTokenEnv = "HEADGATE_DRAIN_TOKEN"
	// graceMargin is the time, in seconds, between the end of a drain at its longest and the kubelet's patience.
	graceMargin = 10
)

func deployment(gw *graph.Gateway, o Options) *appsv1.Deployment {
	d := &appsv1.Deployment{
		TypeMeta: typeMeta("apps/v1", "Deployment"), ObjectMeta: objectMeta(gw),
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: selector(gw)},
			Template: podTemplate(gw, o),
			// A new proxy must be ready before an old one goes.
			Strategy: appsv1.DeploymentStrategy{
				Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{
					MaxSurge: new(intstr.FromInt32(1)), MaxUnavailable: new(intstr.FromInt32(0)),
				},
			},
		},
	}
	if o.Proxy.Autoscaling == nil { // else the number is the autoscaler's
		d.Spec.Replicas = o.Proxy.Replicas
	}
	return d
}

func daemonSet(gw *graph.Gateway, o Options) *appsv1.DaemonSet {
	d := &appsv1.DaemonSet{
		TypeMeta: typeMeta("apps/v1", "DaemonSet"), ObjectMeta: objectMeta(gw),
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: selector(gw)},
			Template: podTemplate(gw, o),
			// On each node a new proxy must be ready before the old one goes.
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
				Type: appsv1.RollingUpdateDaemonSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDaemonSet{
					MaxSurge: new(intstr.FromInt32(1)), MaxUnavailable: new(intstr.FromInt32(0)),
				},
			},
		},
	}
	d.Spec.Template.Spec.TopologySpreadConstraints = nil // one to a node already
	return d
}

func podTemplate(gw *graph.Gateway, o Options) corev1.PodTemplateSpec {
	_, longest := drainSeconds(o.Proxy.Drain)
	pod := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels(gw), Annotations: podAnnotations(gw, o)},
		Spec: corev1.PodSpec{
			ServiceAccountName:            objectMeta(gw).Name,
			AutomountServiceAccountToken:  new(false),
			EnableServiceLinks:            new(false),
			TerminationGracePeriodSeconds: new(int64(longest + graceMargin)),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(nonroot)), RunAsGroup: new(int64(nonroot)), FSGroup: new(int64(nonroot)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
				MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
			}},
			InitContainers: []corev1.Container{shutdownManager(gw, o)},
			Containers:     []corev1.Container{proxy(gw, o)},
			Volumes:        volumes(objectMeta(gw).Name),
		},
	}
	for _, name := range o.Proxy.ImagePullSecrets {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	place(gw, &pod.Spec, o.Proxy.Pod)
	return pod
}

// place says where the pod runs.
func place(gw *graph.Gateway, pod *corev1.PodSpec, p *v1beta1.PodPlacement) {
	if p != nil {
		pod.NodeSelector, pod.Tolerations, pod.Affinity = p.NodeSelector, p.Tolerations, p.Affinity
		pod.PriorityClassName = p.PriorityClassName
		if p.TopologySpreadConstraints != nil {
			pod.TopologySpreadConstraints = slices.Clone(p.TopologySpreadConstraints)
		}
	}
	for i := range pod.TopologySpreadConstraints {
		if c := &pod.TopologySpreadConstraints[i]; c.LabelSelector == nil {
			c.LabelSelector = &metav1.LabelSelector{MatchLabels: selector(gw)}
		}
	}
}

func podAnnotations(gw *graph.Gateway, o Options) map[string]string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(o.Files)) {
		sum.Write([]byte(name + "\x00"))
		sum.Write(o.Files[name])
	}
	out := map[string]string{}
	maps.Copy(out, annotations(gw))
	out[AnnotationBootstrap] = hex.EncodeToString(sum.Sum(nil)[:8])
	out["prometheus.io/scrape"] = "true"
	out["prometheus.io/port"] = strconv.Itoa(graph.StatsPort)
	out["prometheus.io/path"] = "/stats/prometheus"
	return out
}

func proxy(gw *graph.Gateway, o Options) corev1.Container {
	idle, _ := drainSeconds(o.Proxy.Drain)
	ready := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromInt32(graph.StatsPort)}}
	return corev1.Container{
		Name:  proxyContainer,
		Image: o.Proxy.Image,
		Args: []string{
			"-c", ConfigDir + "/" + BootstrapFile,
			"--service-node", "$(POD_NAME)",
			"--concurrency", strconv.Itoa(int(*o.Proxy.Concurrency)),
			"--log-level", strings.ToLower(o.Proxy.LogLevel),
			"--drain-time-s", strconv.Itoa(int(idle)),
			"--disable-hot-restart", // it needs shared memory that can be written
		},
		Env: []corev1.EnvVar{{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"},
		}}},
		Ports:     []corev1.ContainerPort{{Name: "stats", ContainerPort: graph.StatsPort, Protocol: corev1.ProtocolTCP}},
		Resources: *o.Proxy.Resources,
		// Until the first configuration is complete the pod has not started.
		StartupProbe:   &corev1.Probe{ProbeHandler: ready, PeriodSeconds: 1, FailureThreshold: 120},
		ReadinessProbe: &corev1.Probe{ProbeHandler: ready, PeriodSeconds: 5, FailureThreshold: 1},
		Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: DrainPath, Port: intstr.FromInt32(graph.DrainPort),
			HTTPHeaders: []corev1.HTTPHeader{{Name: DrainTokenHeader, Value: drainToken(gw)}},
		}}},
		SecurityContext: restricted(),
		VolumeMounts: []corev1.VolumeMount{
			{Name: "bootstrap", MountPath: ConfigDir, ReadOnly: true},
			{Name: "tls", MountPath: CertDir, ReadOnly: true},
		},
	}
}

// shutdownManager is a native sidecar: it starts before the proxy and is stopped
// after it, so that it is there for the whole of the proxy's preStop hook.
func shutdownManager(gw *graph.Gateway, o Options) corev1.Container {
	idle, longest := drainSeconds(o.Proxy.Drain)
	return corev1.Container{
		Name:          "shutdown-manager",
		Image:         o.HeadgateImage,
		RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
		Args: []string{
			"shutdown-manager",
			fmt.Sprintf("--listen=:%d", graph.DrainPort),
			fmt.Sprintf("--admin=http://127.0.0.1:%d", graph.AdminPort),
			fmt.Sprintf("--drain-time=%ds", idle),
			fmt.Sprintf("--max-drain-time=%ds", longest),
		},
		Env: []corev1.EnvVar{{Name: DrainTokenEnv, Value: drainToken(gw)}},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("5m"), corev1.ResourceMemory: resource.MustParse("24Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("96Mi")},
		},
		SecurityContext: restricted(),
	}
}

// drainToken is known to those who can read the Gateway or its pods.
func drainToken(gw *graph.Gateway) string {
	sum := sha256.Sum256([]byte("drain/" + gw.Key.String() + "/" + string(gw.Source.UID)))
	return hex.EncodeToString(sum[:16])
}

func restricted() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

func volumes(name string) []corev1.Volume {
	return []corev1.Volume{
		{Name: "bootstrap", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, DefaultMode: new(int32(0o444)),
		}}},
		{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: name, DefaultMode: new(int32(0o440)),
		}}},
	}
}
