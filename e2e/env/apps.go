// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// App is a deployment of the sample application, e2e/app.
type App struct {
	Name     string
	Replicas int
	Version  string
	// Env are the app's further knobs: ERROR_RATE, LATENCY, CRASH_AFTER, READY_DELAY, ….
	Env map[string]string
	// Service is the type of its Service; empty means ClusterIP.
	Service string
}

// Manifest returns the Deployment and the Service of an App. Port 80 of the
// Service is the app's port; Prometheus scrapes the pods.
func (a App) Manifest(image string) string {
	service := a.Service
	if service == "" {
		service = "ClusterIP"
	}
	var knobs strings.Builder
	for _, name := range slices.Sorted(maps.Keys(a.Env)) {
		fmt.Fprintf(&knobs, "        - {name: %s, value: %q}\n", name, a.Env[name])
	}
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata:
      labels: {app: %[1]s}
      annotations: {prometheus.io/scrape: "true", prometheus.io/port: "8080", prometheus.io/path: /metrics}
    spec:
      containers:
      - name: app
        image: %[3]s
        imagePullPolicy: IfNotPresent
        ports: [{name: http, containerPort: 8080}]
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: VERSION, value: %[4]q}
%[5]s        readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 1, timeoutSeconds: 3}
        securityContext:
          runAsNonRoot: true
          readOnlyRootFilesystem: true
          allowPrivilegeEscalation: false
          capabilities: {drop: [ALL]}
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  type: %[6]s
  selector: {app: %[1]s}
  ports: [{name: http, port: 80, targetPort: http}]
`, a.Name, a.Replicas, image, a.Version, knobs.String(), service)
}

// DeployApp applies an App. A second call with another version is the user's
// `kubectl apply` of a new version. It does not wait.
func (s *Space) DeployApp(ctx context.Context, a App) error {
	image, err := s.Image(ctx, "app")
	if err != nil {
		return err
	}
	return s.Apply(ctx, a.Manifest(image))
}

// prometheusManifest scrapes every pod of the cluster that asks for it with the
// annotations prometheus.io/scrape, port and path. %[1]s is the namespace, %[2]s
// the image and %[3]q a name for what stands in prometheus.yml.
const prometheusManifest = `apiVersion: v1
kind: ServiceAccount
metadata: {name: prometheus}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: headgate-e2e-prometheus-%[1]s}
rules: [{apiGroups: [""], resources: [pods], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: headgate-e2e-prometheus-%[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: headgate-e2e-prometheus-%[1]s}
subjects: [{kind: ServiceAccount, name: prometheus, namespace: %[1]s}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: prometheus}
data:
  prometheus.yml: |
    global:
      scrape_interval: 1s
      scrape_timeout: 1s
      evaluation_interval: 1s
      # Histograms of both kinds, where an app has both.
      scrape_native_histograms: true
      always_scrape_classic_histograms: true
    scrape_configs:
    - job_name: pods
      kubernetes_sd_configs: [{role: pod}]
      relabel_configs:
      - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], regex: "true", action: keep}
      - {source_labels: [__meta_kubernetes_pod_phase], regex: Running, action: keep}
      # One target for each pod, not one for each of its ports.
      - {source_labels: [__meta_kubernetes_pod_container_init], regex: "false", action: keep}
      - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], regex: (.+), target_label: __metrics_path__}
      - {source_labels: [__meta_kubernetes_pod_ip, __meta_kubernetes_pod_annotation_prometheus_io_port], regex: (.+);(.+), replacement: "$1:$2", target_label: __address__}
      - {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
      - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: prometheus, labels: {app: prometheus}}
spec:
  replicas: 1
  selector: {matchLabels: {app: prometheus}}
  template:
    metadata: {labels: {app: prometheus}, annotations: {config: %[3]q}} # a new one is read by a new pod
    spec:
      serviceAccountName: prometheus
      containers:
      - name: prometheus
        image: %[2]s
        imagePullPolicy: IfNotPresent
        args: [--config.file=/etc/prometheus/prometheus.yml, --storage.tsdb.path=/prometheus, --storage.tsdb.retention.time=6h]
        ports: [{name: http, containerPort: 9090}]
        readinessProbe: {httpGet: {path: /-/ready, port: http}, periodSeconds: 1}
        securityContext:
          runAsNonRoot: true
          readOnlyRootFilesystem: true
          allowPrivilegeEscalation: false
          capabilities: {drop: [ALL]}
        volumeMounts:
        - {name: config, mountPath: /etc/prometheus}
        - {name: data, mountPath: /prometheus}
      securityContext: {runAsUser: 65532, fsGroup: 65532}
      volumes:
      - {name: config, configMap: {name: prometheus}}
      - {name: data, emptyDir: {}}
---
apiVersion: v1
kind: Service
metadata: {name: prometheus}
spec: {selector: {app: prometheus}, ports: [{name: http, port: 9090, targetPort: http}]}
`

// InstallPrometheus runs a Prometheus in the namespace that scrapes annotated
// pods of all namespaces every second, and returns its address inside the
// cluster; on the local node that address works on the machine by Service IP.
func (s *Space) InstallPrometheus(ctx context.Context) (address string, err error) {
	image, err := s.Image(ctx, "prometheus")
	if err != nil {
		return "", err
	}
	if err := s.Apply(ctx, fmt.Sprintf(prometheusManifest, s.Name, image, "native histograms")); err != nil {
		return "", err
	}
	return "http://prometheus." + s.Name + ".svc:9090", s.WaitRolledOut(ctx, "prometheus", 2*time.Minute)
}
