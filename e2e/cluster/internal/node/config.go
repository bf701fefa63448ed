// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"headgate.dev/headgate/e2e/cluster/internal/layout"
)

// The configuration files of the components, with the reasons for each setting.
//
//go:embed config
var configFiles embed.FS

// settings are what the configuration files are filled in with, beside constants.
type settings struct {
	layout.Layout
	CNIPlugins, PauseImage, CoreDNSImage string
}

// values are the names that the configuration files use.
func (s settings) values() map[string]string {
	return map[string]string{
		"Node": s.Node(), "Config": s.Config(), "PKI": s.PKI(), "ContainerdSocket": s.ContainerdSocket(),
		"Run": layout.RunDir, "Cgroup": layout.Cgroup, "NodeName": layout.NodeName,
		"PodRange": layout.PodRange.String(), "DNSIP": layout.DNSIP.String(),
		"CNIPlugins": s.CNIPlugins, "PauseImage": s.PauseImage, "CoreDNSImage": s.CoreDNSImage,
	}
}

// render fills in one file of the config folder. An unknown name is an error.
func (s settings) render(file string) (string, error) {
	t, err := template.ParseFS(configFiles, "config/"+file)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", file, err)
	}
	var out bytes.Buffer
	if err := t.Option("missingkey=error").Execute(&out, s.values()); err != nil {
		return "", fmt.Errorf("filling in %s: %w", file, err)
	}
	return out.String(), nil
}

// configs renders the files that components read, by path below Config.
func (s settings) configs() (map[string]string, error) {
	files := map[string]string{"resolv.conf": "# The node resolves nothing outside the cluster.\n"}
	for from, to := range map[string]string{
		"containerd.toml": "containerd.toml",
		"cni.conflist":    "cni/10-headgate.conflist",
		"kubelet.yaml":    "kubelet.yaml",
		"kube-proxy.yaml": "kube-proxy.yaml",
	} {
		content, err := s.render(from)
		if err != nil {
			return nil, err
		}
		files[to] = content
	}
	return files, nil
}

// writeFiles writes the files below dir that are not there yet, readable by root
// only: kubeconfigs carry keys. One life of the node keeps its configuration: a
// component reads its files when it starts, and kube-proxy ends itself when its
// file is touched.
func writeFiles(dir string, files map[string]string) error {
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		_, err = f.WriteString(content)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}
