// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/e2e/cluster/internal/layout"
)

func TestConflicts(t *testing.T) {
	ranges := append(layout.Ranges(), layout.LinkRange)
	tests := []struct {
		name   string
		routes []route
		want   int
	}{
		{"an ordinary machine", []route{{"default", "eth0"}, {"192.0.2.0/24", "eth0"}, {"172.17.0.0/16", "docker0"}}, 0},
		{"the node's own routes", []route{{"10.244.0.0/16", layout.HostLink}, {"10.200.0.0/24", layout.HostLink}}, 0},
		{"another cluster with the usual pod range", []route{{"10.244.1.0/24", "cni0"}}, 1},
		{"a company network around everything", []route{{"10.0.0.0/8", "tun0"}}, len(ranges)},
		{"a single address", []route{{"10.250.0.9", "eth1"}}, 1},
		{"a line that is no route", []route{{"broadcast", "lo"}}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := conflicts(tt.routes, ranges); len(got) != tt.want {
				t.Errorf("conflicts = %q, want %d", got, tt.want)
			}
		})
	}
}

func TestRangesDoNotOverlap(t *testing.T) {
	all := append(layout.Ranges(), layout.LinkRange)
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.Overlaps(b) {
				t.Errorf("%s overlaps %s", a, b)
			}
		}
	}
	for ip, within := range map[netip.Addr]netip.Prefix{
		layout.HostIP: layout.LinkRange, layout.NodeIP: layout.LinkRange,
		layout.DNSIP: layout.ServiceRange, layout.APIServiceIP: layout.ServiceRange,
	} {
		if !within.Contains(ip) {
			t.Errorf("%s is not in %s", ip, within)
		}
	}
	// The API server takes the first address of the range for itself.
	if first := layout.ServiceRange.Addr().Next(); first != layout.APIServiceIP {
		t.Errorf("the API Service gets %s, the certificates say %s", first, layout.APIServiceIP)
	}
}

func testSettings() settings {
	return settings{Layout: layout.Layout{Cache: "/cache"}, CNIPlugins: "/usr/lib/cni", PauseImage: "example.com/pause:1", CoreDNSImage: "example.com/coredns:1"}
}

func TestConfigFilesAreFilledInAndParse(t *testing.T) {
	files, err := testSettings().configs()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if strings.Contains(content, "{{") || strings.Contains(content, "<no value>") {
			t.Errorf("%s is not filled in:\n%s", name, content)
		}
		var parsed any
		switch filepath.Ext(name) {
		case ".yaml":
			err = yaml.UnmarshalStrict([]byte(content), &parsed)
		case ".conflist":
			err = json.Unmarshal([]byte(content), &parsed)
		default:
			err = nil
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	dns, err := testSettings().render("coredns.yaml")
	if err != nil || !strings.Contains(dns, layout.DNSIP.String()) || !strings.Contains(dns, "example.com/coredns:1") {
		t.Errorf("coredns.yaml: %v\n%s", err, dns)
	}
}

func TestComponents(t *testing.T) {
	l := layout.Layout{Cache: "/cache"}
	files, err := testSettings().configs()
	if err != nil {
		t.Fatal(err)
	}
	stages := components(l, binaries{Kubernetes: "/k8s", Etcd: "/etcd", Containerd: "/containerd", Self: "/self"}, files)
	want := []string{
		"etcd", "containerd", "kube-apiserver",
		"kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "load-balancer",
	}
	if diff := cmp.Diff(want, allNames(stages)); diff != "" {
		t.Error("order of start (-want +got):", diff)
	}
	for _, c := range slices.Concat(stages...) {
		if !filepath.IsAbs(c.Argv[0]) {
			t.Errorf("%s is started as %q, want an absolute path: the launcher does not search", c.Name, c.Argv[0])
		}
		if c.Grace <= 0 {
			t.Errorf("%s gets no time to end", c.Name)
		}
		for _, arg := range c.Argv[1:] {
			// Every file that is named is one that prepare writes.
			_, path, _ := strings.Cut(arg, "=")
			name, ours := strings.CutPrefix(path, l.Config()+"/")
			if !ours {
				continue
			}
			kubeconfig, isKubeconfig := strings.CutSuffix(name, ".kubeconfig")
			_, written := files[name]
			if isKubeconfig {
				written = hasIdentity(kubeconfig)
			}
			if !written {
				t.Errorf("%s reads %s, which nobody writes", c.Name, name)
			}
		}
	}
	// A changed configuration file must count as a changed component.
	before := components(l, binaries{}, files)
	files["kubelet.yaml"] += "# changed\n"
	for i, stage := range components(l, binaries{}, files) {
		for j, c := range stage {
			if changed := c.Hash() != before[i][j].Hash(); changed != (c.Name == "kubelet") {
				t.Errorf("after a change of kubelet.yaml, changed(%s) = %v", c.Name, changed)
			}
		}
	}
}

func hasIdentity(file string) bool {
	return slices.ContainsFunc(identities(), func(id identity) bool { return id.file == file })
}

func TestPKI(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	now := time.Now()
	if created, err := ensurePKI(dir, now); err != nil || !created {
		t.Fatalf("ensurePKI = %v, %v; want created", created, err)
	}
	if created, err := ensurePKI(dir, now.Add(time.Hour)); err != nil || created {
		t.Errorf("an hour later: %v, %v; want kept", created, err)
	}
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		t.Fatal("no CA:", err)
	}
	for _, id := range identities() {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, id.file+".crt"), filepath.Join(dir, id.file+".key"))
		if err != nil {
			t.Error(err)
			continue
		}
		usages := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: usages}); err != nil {
			t.Errorf("%s: %v", id.file, err)
		}
		if pair.Leaf.Subject.CommonName != id.user || !slices.Equal(pair.Leaf.Subject.Organization, id.groups) {
			t.Errorf("%s is %v", id.file, pair.Leaf.Subject)
		}
	}
	apiserver, err := tls.LoadX509KeyPair(filepath.Join(dir, "apiserver.crt"), filepath.Join(dir, "apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kubernetes.default.svc", layout.NodeIP.String(), layout.APIServiceIP.String(), "127.0.0.1"} {
		if err := apiserver.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	for _, file := range []string{"ca.key", "admin.key", "service-accounts.key"} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v, want readable by root only", file, info.Mode(), err)
		}
	}

	t.Run("a kubeconfig carries all it needs", func(t *testing.T) {
		content, err := kubeconfig(dir, "https://192.0.2.1:6443", "admin")
		if err != nil {
			t.Fatal(err)
		}
		config, err := clientcmd.RESTConfigFromKubeConfig([]byte(content))
		if err != nil {
			t.Fatal(err)
		}
		if config.Host != "https://192.0.2.1:6443" || len(config.CAData) == 0 || len(config.CertData) == 0 || len(config.KeyData) == 0 {
			t.Errorf("config = %+v", config)
		}
	})
	t.Run("half a folder is made anew", func(t *testing.T) {
		if err := os.Remove(filepath.Join(dir, "complete")); err != nil {
			t.Fatal(err)
		}
		if created, err := ensurePKI(dir, now); err != nil || !created {
			t.Errorf("ensurePKI = %v, %v; want created", created, err)
		}
	})
	t.Run("keys near their end are made anew", func(t *testing.T) {
		if created, err := ensurePKI(dir, now.Add(caLife/100*95)); err != nil || !created {
			t.Errorf("ensurePKI = %v, %v; want created", created, err)
		}
	})
}

func TestMissingToolsAreNamedWithTheCommandThatInstallsThem(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // a machine that is not Debian and has nothing
	err := installTools(t.Context(), Node{Out: io.Discard})
	if err == nil {
		t.Fatal("nothing is missing")
	}
	for _, want := range []string{"apt-get install --yes --no-install-recommends runc iproute2 nftables", "conntrack"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
}

func TestWriteFilesKeepsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	if err := writeFiles(dir, map[string]string{"a/b": "old"}); err != nil {
		t.Fatal(err)
	}
	if err := writeFiles(dir, map[string]string{"a/b": "new", "c": "new"}); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(filepath.Join(dir, "a/b"))
	c, _ := os.ReadFile(filepath.Join(dir, "c"))
	if string(b) != "old" || string(c) != "new" {
		t.Errorf("a/b = %q, c = %q; want old and new", b, c)
	}
}

func TestMountsBelow(t *testing.T) {
	const mounts = `22 1 0:20 / / rw - ext4 /dev/vda rw
40 22 0:31 / /cache/node/kubelet rw shared:1 - ext4 /dev/vda rw
41 40 0:32 / /cache/node/kubelet/pods/x/volumes/my\040token rw - tmpfs tmpfs rw
42 22 0:33 / /run/headgate/ns rw - nsfs nsfs rw
43 22 0:34 / /cache/nodes rw - ext4 /dev/vdb rw
44 22 0:35 / /cache/node/kubelet rw - ext4 /dev/vda rw
`
	want := []string{"/cache/node/kubelet/pods/x/volumes/my token", "/cache/node/kubelet", "/run/headgate/ns", "/cache/node/kubelet"}
	if diff := cmp.Diff(want, mountsBelow(mounts, "/cache/node", "/run/headgate")); diff != "" {
		t.Error("(-want +got):", diff)
	}
}
