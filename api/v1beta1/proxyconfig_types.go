// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ProxyConfig says how the proxies of Gateways run. A Gateway names one of its
// namespace in spec.infrastructure.parametersRef; a GatewayClass names one of any
// namespace in spec.parametersRef, which then holds the defaults of all its Gateways.
// A field that the Gateway's sets wins over the class's, and that over the built-in
// value; lists and maps are taken whole.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=pxc,categories=headgate
// +kubebuilder:printcolumn:name="Workload",type=string,JSONPath=`.spec.workload`
// +kubebuilder:printcolumn:name="Replicas",type=integer,JSONPath=`.spec.replicas`
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=`.spec.service.type`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ProxyConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ProxyConfigSpec `json:"spec,omitempty"`
}

// ProxyConfigList is a list of ProxyConfigs.
//
// +kubebuilder:object:root=true
type ProxyConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ProxyConfig `json:"items"`
}

// ProxyConfigSpec says how proxies run. Every field is optional.
//
// +kubebuilder:validation:XValidation:rule="!has(self.replicas) || !has(self.autoscaling)",message="give replicas (a fixed number) or autoscaling (a range), not both"
// +kubebuilder:validation:XValidation:rule="!has(self.workload) || self.workload != 'DaemonSet' || !(has(self.replicas) || has(self.autoscaling))",message="a DaemonSet runs one proxy on every node that pod.nodeSelector and pod.affinity allow: remove replicas and autoscaling, or write workload: Deployment"
// +kubebuilder:validation:XValidation:rule="!has(self.workload) || self.workload != 'DaemonSet' || !has(self.disruptionBudget)",message="a DaemonSet cannot have a disruption budget (draining a node leaves its pods alone): remove disruptionBudget, or write workload: Deployment"
// +kubebuilder:validation:XValidation:rule="!has(self.autoscaling) || !has(self.resources) || (has(self.resources.requests) && 'cpu' in self.resources.requests)",message="autoscaling compares the use of CPU with what is requested: set resources.requests.cpu"
type ProxyConfigSpec struct {
	// Workload is what runs the proxies: a Deployment (default), or a DaemonSet with
	// one proxy on every node.
	// +optional
	Workload WorkloadKind `json:"workload,omitempty"`

	// Replicas is the number of proxies of a Deployment. Absent, and without
	// autoscaling: one at first, and then as many as somebody scales it to.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	Replicas *int32 `json:"replicas,omitempty"`

	// Autoscaling lets a HorizontalPodAutoscaler choose the number of proxies.
	// +optional
	Autoscaling *Autoscaling `json:"autoscaling,omitempty"`

	// DisruptionBudget bounds how many proxies of a Deployment may be evicted at
	// once. Default: one. It never keeps a node from being drained.
	// +optional
	DisruptionBudget *DisruptionBudget `json:"disruptionBudget,omitempty"`

	// Image of Envoy, for example docker.io/envoyproxy/envoy:distroless-v1.40.0.
	// Default: the one Headgate was installed with.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^ ]+$')",message="write an image reference such as docker.io/envoyproxy/envoy:distroless-v1.40.0"
	Image string `json:"image,omitempty"`

	// ImagePullSecrets are the names of Secrets with registry credentials, in the
	// namespace of the Gateway.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	ImagePullSecrets []string `json:"imagePullSecrets,omitempty"`

	// Resources of each proxy's container. Default: requests of 100m CPU and 128Mi
	// memory, a limit of 1Gi memory. A proxy refuses new work at 78 % of its memory
	// limit, before the kernel ends it.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// Concurrency is the number of worker threads of each proxy. Default 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=256
	Concurrency *int32 `json:"concurrency,omitempty"`

	// LogLevel of the proxies' own log. Default Warning.
	// +optional
	// +kubebuilder:validation:Enum=Trace;Debug;Info;Warning;Error;Critical;Off
	LogLevel string `json:"logLevel,omitempty"`

	// AccessLog is what the proxies write about each request. Default: every request,
	// as JSON, to standard output. It is taken whole.
	// +optional
	AccessLog *AccessLog `json:"accessLog,omitempty"`

	// Drain is how a proxy leaves.
	// +optional
	Drain *Drain `json:"drain,omitempty"`

	// MaxConnections bounds the connections of clients to one proxy; further ones are
	// closed at once. Default 50000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000000
	MaxConnections *int32 `json:"maxConnections,omitempty"`

	// Pod says where the proxies run.
	// +optional
	Pod *PodPlacement `json:"pod,omitempty"`

	// Service is the one that leads traffic to the proxies.
	// +optional
	Service *ProxyService `json:"service,omitempty"`

	// Bootstrap is merged into Envoy's static configuration: a part of an
	// envoy.config.bootstrap.v3.Bootstrap, as JSON or YAML. Messages are merged field by
	// field, lists are appended to. What leads to Headgate (node, admin,
	// dynamic_resources, the cluster "headgate") cannot be changed. A change restarts the
	// proxies, one after the other.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Bootstrap *runtime.RawExtension `json:"bootstrap,omitempty"`
}

// WorkloadKind is what runs the proxies.
// +kubebuilder:validation:Enum=Deployment;DaemonSet
type WorkloadKind string

// The workloads that run proxies.
const (
	WorkloadDeployment WorkloadKind = "Deployment"
	WorkloadDaemonSet  WorkloadKind = "DaemonSet"
)

// Autoscaling is the range and the target of a HorizontalPodAutoscaler.
//
// +kubebuilder:validation:XValidation:rule="!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",message="minReplicas must not be more than maxReplicas"
type Autoscaling struct {
	// MinReplicas is the least number of proxies. Default 1; with 2 or more a lost node
	// costs no outage.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MinReplicas *int32 `json:"minReplicas,omitempty"`
	// MaxReplicas is the greatest number of proxies.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxReplicas int32 `json:"maxReplicas"`
	// CPUUtilization is the use of CPU to aim at, in percent of what is requested.
	// Default 80.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	CPUUtilization *int32 `json:"cpuUtilization,omitempty"`
}

// DisruptionBudget is a PodDisruptionBudget's.
type DisruptionBudget struct {
	// MaxUnavailable is how many proxies may be missing because of evictions: a number
	// of at least 1, or a share of at least 1%, rounded up.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=8
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? int(self) >= 1 : string(self).matches('^([1-9][0-9]?|100)%$')",message="write a number of at least 1, or a share such as 25%: with 0 no node could be drained"
	MaxUnavailable intstr.IntOrString `json:"maxUnavailable"`
}

// AccessLogFormat is the form of the access log.
// +kubebuilder:validation:Enum=JSON;Text;Off
type AccessLogFormat string

// The forms of the access log.
const (
	AccessLogJSON AccessLogFormat = "JSON"
	AccessLogText AccessLogFormat = "Text"
	AccessLogOff  AccessLogFormat = "Off"
)

// AccessLog is what the proxies write about each request, to standard output.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.fields) && has(self.text))",message="give fields (for JSON) or text (for Text), not both"
// +kubebuilder:validation:XValidation:rule="!has(self.format) || self.format != 'Text' || has(self.text)",message="format Text needs text: the line to write, for example '%START_TIME% %RESPONSE_CODE% %REQ(:PATH)%'"
// +kubebuilder:validation:XValidation:rule="!has(self.text) || (has(self.format) && self.format != 'JSON')",message="text belongs to format: Text"
// +kubebuilder:validation:XValidation:rule="!has(self.fields) || !has(self.format) || self.format != 'Text'",message="fields belong to format: JSON"
type AccessLog struct {
	// Format is JSON (default), Text, or Off. Turning the log off and on again, and
	// changing sample, touches no connection; every other change lets clients connect
	// anew within the drain time.
	// +optional
	Format AccessLogFormat `json:"format,omitempty"`
	// Fields are added to the JSON object, by name, or replace those of the default with
	// the same name; an empty value leaves that field out. Values are Envoy's command
	// operators, for example "%REQ(X-TENANT)%".
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Fields map[string]string `json:"fields,omitempty"`
	// Text is one line, with Envoy's command operators.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Text string `json:"text,omitempty"`
	// Sample is the share of requests that are written, chosen at random. Default 100%.
	// +optional
	// +kubebuilder:validation:MaxLength=8
	// +kubebuilder:validation:XValidation:rule="self.matches('^(100|[0-9]{1,2}([.][0-9]{1,4})?)%$')",message="write a share of the requests such as 10% or 0.5%"
	Sample string `json:"sample,omitempty"`
}

// Drain is how a proxy leaves: it says so to load balancers and clients, waits for idle
// connections to go, and then for requests that still run.
//
// +kubebuilder:validation:XValidation:rule="!has(self.idle) || !has(self.max) || duration(self.idle) <= duration(self.max)",message="idle must not be longer than max"
type Drain struct {
	// Idle is how long to wait for clients to close idle connections, at least 3s, so that
	// load balancers notice. Default 20s.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(s|m|h))+$') && duration(self) >= duration('3s') && duration(self) <= duration('1h')",message="write a duration from 3s to 1h, such as 20s"
	Idle *metav1.Duration `json:"idle,omitempty"`
	// Max is how long to wait for requests that still run; then they are cut. Default 60s.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(s|m|h))+$') && duration(self) >= duration('3s') && duration(self) <= duration('24h')",message="write a duration from 3s to 24h, such as 5m"
	Max *metav1.Duration `json:"max,omitempty"`
}

// PodPlacement says where the proxies run.
type PodPlacement struct {
	// NodeSelector are the labels a node must have.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// Tolerations let the proxies run on nodes with these taints.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// Affinity to nodes and to other pods.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`
	// TopologySpreadConstraints; one without a labelSelector counts the proxies of the
	// Gateway. Default: spread over nodes where possible.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
	// PriorityClassName of the pods.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	PriorityClassName string `json:"priorityClassName,omitempty"`
}

// ProxyService is the Service that leads traffic to the proxies.
//
// +kubebuilder:validation:XValidation:rule="!has(self.type) || self.type == 'LoadBalancer' || !(has(self.loadBalancerClass) || has(self.loadBalancerSourceRanges) || has(self.allocateLoadBalancerNodePorts))",message="loadBalancerClass, loadBalancerSourceRanges and allocateLoadBalancerNodePorts belong to type: LoadBalancer"
// +kubebuilder:validation:XValidation:rule="!has(self.type) || self.type != 'ClusterIP' || !has(self.externalTrafficPolicy)",message="externalTrafficPolicy belongs to the types LoadBalancer and NodePort"
type ProxyService struct {
	// Type is LoadBalancer (default), NodePort or ClusterIP. With the last two the
	// Gateway's address is the Service's cluster IP.
	// +optional
	// +kubebuilder:validation:Enum=LoadBalancer;NodePort;ClusterIP
	Type corev1.ServiceType `json:"type,omitempty"`
	// Annotations of the Service, for the cloud's load balancer for example. They win over
	// those of the Gateway's spec.infrastructure.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Annotations map[string]string `json:"annotations,omitempty"`
	// ExternalTrafficPolicy is Cluster (default) or Local: only nodes with a proxy take
	// traffic, and proxies see the clients' addresses.
	// +optional
	// +kubebuilder:validation:Enum=Cluster;Local
	ExternalTrafficPolicy corev1.ServiceExternalTrafficPolicy `json:"externalTrafficPolicy,omitempty"`
	// LoadBalancerClass names the load balancer's implementation. Kubernetes does not let it
	// change on a Service that exists.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	LoadBalancerClass *string `json:"loadBalancerClass,omitempty"`
	// LoadBalancerSourceRanges are the client addresses that are let in, in CIDR notation.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.all(r, isCIDR(r))",message="write ranges in CIDR notation, such as 10.0.0.0/8"
	LoadBalancerSourceRanges []string `json:"loadBalancerSourceRanges,omitempty"`
	// AllocateLoadBalancerNodePorts is false where the load balancer reaches pods without
	// node ports. Default true.
	// +optional
	AllocateLoadBalancerNodePorts *bool `json:"allocateLoadBalancerNodePorts,omitempty"`
}
