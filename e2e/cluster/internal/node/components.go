// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"path/filepath"
	"time"

	"headgate.dev/headgate/e2e/cluster/internal/layout"
	"headgate.dev/headgate/e2e/cluster/internal/process"
)

// server is the API server as everybody reaches it, inside and outside the node.
var server = "https://" + layout.NodeIP.String() + ":6443"

// binaries are the folders of built programs that the node runs.
type binaries struct {
	Kubernetes, Etcd, Containerd string
	// Self is this program, for the load balancer.
	Self string
}

// A stage is a set of components that start together, once the stages before
// them answer. Stopping goes the other way round.
type stage []process.Command

// components are the node's programs in the order they start. files are the
// rendered configuration files by name.
func components(l layout.Layout, bin binaries, files map[string]string) []stage {
	config := func(name string) string { return filepath.Join(l.Config(), name) }
	pki := func(name string) string { return filepath.Join(l.PKI(), name) }
	return []stage{
		{
			etcd(l, bin),
			{
				Name:  "containerd",
				Argv:  []string{filepath.Join(bin.Containerd, "containerd"), "--config", config("containerd.toml")},
				Env:   []string{"PATH=" + bin.Containerd + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
				Uses:  []string{files["containerd.toml"], files["cni/10-headgate.conflist"]},
				Grace: 10 * time.Second,
			},
			apiserver(bin, pki),
		},
		{
			controllerManager(l, bin, config, pki),
			{
				Name: "kube-scheduler",
				Argv: []string{
					filepath.Join(bin.Kubernetes, "kube-scheduler"), "--kubeconfig=" + config("kube-scheduler.kubeconfig"),
					"--leader-elect=false", // there is one: waiting for the lease only delays a restart
					"--kube-api-qps=500", "--kube-api-burst=1000",
				},
				Grace: 5 * time.Second,
			},
			{
				Name: "kubelet",
				Argv: []string{
					filepath.Join(bin.Kubernetes, "kubelet"), "--config=" + config("kubelet.yaml"), "--kubeconfig=" + config("kubelet.kubeconfig"),
					"--hostname-override=" + layout.NodeName, "--node-ip=" + layout.NodeIP.String(),
					"--root-dir=" + filepath.Join(l.Node(), "kubelet"), "--cert-dir=" + filepath.Join(l.Node(), "kubelet", "pki"),
				},
				Uses:  []string{files["kubelet.yaml"]},
				Grace: 5 * time.Second,
			},
			{
				Name:  "kube-proxy",
				Argv:  []string{filepath.Join(bin.Kubernetes, "kube-proxy"), "--config=" + config("kube-proxy.yaml")},
				Uses:  []string{files["kube-proxy.yaml"]},
				Grace: 5 * time.Second,
			},
			{
				Name:  "load-balancer",
				Argv:  []string{bin.Self, "load-balancer", l.Kubeconfig()},
				Grace: 2 * time.Second,
			},
		},
	}
}

func etcd(l layout.Layout, bin binaries) process.Command {
	return process.Command{
		Name: "etcd",
		Argv: []string{
			filepath.Join(bin.Etcd, "etcd"), "--data-dir", filepath.Join(l.Node(), "etcd"),
			"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
			"--listen-peer-urls=http://127.0.0.1:2380",
			// The node is disposable: a write need not survive the machine's power
			// failure, and not waiting for the disk makes every API write several
			// times faster. A killed etcd loses nothing: the page cache stays.
			"--unsafe-no-fsync",
			"--log-level=warn",
		},
		Grace: 5 * time.Second,
	}
}

func apiserver(bin binaries, pki func(string) string) process.Command {
	return process.Command{
		Name: "kube-apiserver",
		Argv: []string{
			filepath.Join(bin.Kubernetes, "kube-apiserver"),
			"--etcd-servers=http://127.0.0.1:2379",
			"--bind-address=0.0.0.0", "--secure-port=6443", "--advertise-address=" + layout.NodeIP.String(),
			"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
			"--client-ca-file=" + pki("ca.crt"),
			"--kubelet-client-certificate=" + pki("admin.crt"), "--kubelet-client-key=" + pki("admin.key"),
			"--kubelet-preferred-address-types=InternalIP",
			"--service-account-key-file=" + pki("service-accounts.pub"), "--service-account-signing-key-file=" + pki("service-accounts.key"),
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--service-cluster-ip-range=" + layout.ServiceRange.String(),
			"--authorization-mode=Node,RBAC", "--allow-privileged",
			// Beside the default plugins, among which is MutatingAdmissionPolicy.
			"--enable-admission-plugins=NodeRestriction",
			// One user works fast here; fairness between many would only queue it.
			"--enable-priority-and-fairness=false", "--max-requests-inflight=2000", "--max-mutating-requests-inflight=1000",
			// The default keeps events for an hour; a test run writes thousands.
			"--event-ttl=15m",
		},
		// Its own grace for open watches is longer, and nobody waits for them here.
		Grace: 3 * time.Second,
	}
}

func controllerManager(l layout.Layout, bin binaries, config, pki func(string) string) process.Command {
	return process.Command{
		Name: "kube-controller-manager",
		Argv: []string{
			filepath.Join(bin.Kubernetes, "kube-controller-manager"), "--kubeconfig=" + config("kube-controller-manager.kubeconfig"),
			"--service-account-private-key-file=" + pki("service-accounts.key"), "--root-ca-file=" + pki("ca.crt"),
			"--cluster-signing-cert-file=" + pki("ca.crt"), "--cluster-signing-key-file=" + pki("ca.key"),
			"--cluster-name=headgate",
			"--flex-volume-plugin-dir=" + filepath.Join(l.Node(), "kubelet", "volume-plugins"),
			"--leader-elect=false", // there is one: waiting for the lease only delays a restart
			"--use-service-account-credentials",
			// Many small namespaces come and go in parallel tests: more workers and no
			// client-side throttling keep a Deployment's rollout from waiting in a queue.
			"--kube-api-qps=500", "--kube-api-burst=1000",
			"--concurrent-deployment-syncs=20", "--concurrent-replicaset-syncs=20",
			"--concurrent-endpoint-syncs=20", "--concurrent-service-endpoint-syncs=20",
			"--concurrent-namespace-syncs=30", "--concurrent-gc-syncs=40",
			"--concurrent-serviceaccount-token-syncs=10",
			// A ready pod is an endpoint at once, not after a batch is full.
			"--endpoint-updates-batch-period=0", "--endpointslice-updates-batch-period=0",
			// A test that stops a node's kubelet is not planned, but a machine with all
			// cores busy for half a minute is common: no eviction because of it.
			"--node-monitor-grace-period=3m",
			// An HPA in a scenario reacts within seconds.
			"--horizontal-pod-autoscaler-sync-period=2s",
		},
		Grace: 5 * time.Second,
	}
}
