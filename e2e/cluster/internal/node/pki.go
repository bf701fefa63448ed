// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"headgate.dev/headgate/e2e/cluster/internal/layout"
)

// identity is one certificate of the node: a server, a client, or both.
type identity struct {
	file   string
	user   string
	groups []string
	hosts  []string
	ips    []net.IP
}

// identities are the names under which the components know each other; the API
// server's built-in roles are bound to exactly these users and groups.
func identities() []identity {
	node := net.IP(layout.NodeIP.AsSlice())
	return []identity{
		{
			file: "apiserver", user: "kube-apiserver",
			hosts: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
			ips:   []net.IP{net.IPv4(127, 0, 0, 1), net.IP(layout.APIServiceIP.AsSlice()), node},
		},
		{file: "kubelet", user: "system:node:" + layout.NodeName, groups: []string{"system:nodes"}, hosts: []string{layout.NodeName}, ips: []net.IP{node}},
		{file: "admin", user: "admin", groups: []string{"system:masters"}},
		{file: "kube-controller-manager", user: "system:kube-controller-manager"},
		{file: "kube-scheduler", user: "system:kube-scheduler"},
		{file: "kube-proxy", user: "system:kube-proxy"},
	}
}

// caLife is how long keys are used; they are renewed when a tenth of it is left.
const caLife = 5 * 365 * 24 * time.Hour

// ensurePKI makes the keys and certificates in dir, all anew when one is missing
// or near its end. Anew means that a node running on the old ones must restart.
func ensurePKI(dir string, now time.Time) (created bool, err error) {
	if pkiUsable(dir, now) {
		return false, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return false, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	caKey, err := newKey(filepath.Join(dir, "ca.key"))
	if err != nil {
		return false, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "headgate test node"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if err := writeCertificate(filepath.Join(dir, "ca.crt"), ca, ca, caKey, caKey); err != nil {
		return false, err
	}
	serviceAccounts, err := newKey(filepath.Join(dir, "service-accounts.key"))
	if err != nil {
		return false, err
	}
	public, err := x509.MarshalPKIXPublicKey(&serviceAccounts.PublicKey)
	if err != nil {
		return false, err
	}
	if err := writePEM(filepath.Join(dir, "service-accounts.pub"), "PUBLIC KEY", public); err != nil {
		return false, err
	}
	for i, id := range identities() {
		key, err := newKey(filepath.Join(dir, id.file+".key"))
		if err != nil {
			return false, err
		}
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 2), Subject: pkix.Name{CommonName: id.user, Organization: id.groups},
			NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			DNSNames:    id.hosts, IPAddresses: id.ips,
		}
		if err := writeCertificate(filepath.Join(dir, id.file+".crt"), leaf, ca, key, caKey); err != nil {
			return false, err
		}
	}
	// Written last: its presence says that the folder is complete.
	return true, os.WriteFile(filepath.Join(dir, "complete"), nil, 0o600)
}

func pkiUsable(dir string, now time.Time) bool {
	if _, err := os.Stat(filepath.Join(dir, "complete")); err != nil {
		return false
	}
	data, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return false
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return false
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	return err == nil && now.After(ca.NotBefore) && now.Add(caLife/10).Before(ca.NotAfter)
}

func newKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(path, "EC PRIVATE KEY", der)
}

func writeCertificate(path string, leaf, ca *x509.Certificate, key, caKey *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return err
	}
	return writePEM(path, "CERTIFICATE", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// kubeconfig returns a kubeconfig of one identity with everything inside, so
// that it works wherever it is copied to.
func kubeconfig(pki string, server, file string) (string, error) {
	var errs []error
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(pki, name))
		errs = append(errs, err)
		return base64.StdEncoding.EncodeToString(data)
	}
	content := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: headgate
clusters:
- name: headgate
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: %s
  user:
    client-certificate-data: %s
    client-key-data: %s
contexts:
- name: headgate
  context: {cluster: headgate, user: %s}
`, server, read("ca.crt"), file, read(file+".crt"), read(file+".key"), file)
	return content, errors.Join(errs...)
}
