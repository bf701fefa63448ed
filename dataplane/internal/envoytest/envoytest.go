// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package envoytest runs a real Envoy for tests: started with our own bootstrap,
// connected over mutual TLS to our own server, all on loopback. The program is named
// by the environment variable ENVOY; without it the tests are skipped.
package envoytest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/pki"
	"headgate.dev/headgate/dataplane/server"
	"headgate.dev/headgate/dataplane/xds"
)

// patience is how long anything that should happen at once may take on a busy machine.
const patience = 20 * time.Second

// World is a control plane on loopback, with the certificates around it.
type World struct {
	TB        testing.TB
	Authority pki.Pair
	Server    *server.Server
	// Port is where the server listens; it survives StopServer and StartServer.
	Port uint32
	// ProxyIssued is when the certificates of proxies were issued; nil for now.
	ProxyIssued func() time.Time
	// Measurements and Loads are given to each server that is started.
	Measurements server.Measurements
	Loads        server.Loads
	// Linger is that of each server that is started; 0 is the default.
	Linger time.Duration

	notified chan struct{}
	stop     context.CancelFunc
	stopped  chan error
}

// NewWorld starts a control plane. It skips the test when there is no Envoy.
func NewWorld(tb testing.TB) *World {
	tb.Helper()
	if os.Getenv("ENVOY") == "" {
		tb.Skip("ENVOY does not name an Envoy 1.40 program")
	}
	authority, err := pki.NewAuthority(time.Now(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	w := &World{TB: tb, Authority: authority, Port: FreePort(tb)}
	w.StartServer()
	tb.Cleanup(w.StopServer)
	return w
}

// StartServer starts a new server, with nothing published, on the same port.
func (w *World) StartServer() {
	w.TB.Helper()
	identity, err := pki.NewServer(w.Authority, []string{"localhost", "127.0.0.1"}, time.Now(), rand.Reader)
	if err != nil {
		w.TB.Fatal(err)
	}
	w.notified = make(chan struct{}, 1)
	notified := w.notified
	log := logr.Discard()
	if os.Getenv("ENVOYTEST_LOG") != "" {
		log = testr.NewWithInterface(w.TB, testr.Options{})
	}
	w.Server = server.New(server.Options{
		Log:      log,
		Identity: func() pki.Identity { return pki.Identity{Pair: identity, CA: w.Authority.Cert} },
		Notify: func(types.NamespacedName) {
			select {
			case notified <- struct{}{}:
			default:
			}
		},
		Measurements: w.Measurements, Loads: w.Loads, Linger: w.Linger,
	})
	listener, err := net.Listen("tcp", Address(w.Port))
	if err != nil {
		w.TB.Fatal(err)
	}
	var ctx context.Context
	ctx, w.stop = context.WithCancel(context.Background())
	w.stopped = make(chan error, 1)
	srv, stopped := w.Server, w.stopped
	go func() { stopped <- srv.Serve(ctx, listener) }()
}

// StopServer ends the server and waits until it is gone.
func (w *World) StopServer() {
	w.TB.Helper()
	if w.stop == nil {
		return
	}
	w.stop()
	if err := <-w.stopped; err != nil {
		w.TB.Errorf("the server ended with %v", err)
	}
	w.stop = nil
}

// AwaitAck waits until all proxies of the gateway acknowledged the version.
func (w *World) AwaitAck(gateway types.NamespacedName, version uint64) {
	w.TB.Helper()
	deadline := time.After(patience)
	for {
		state := w.Server.State(gateway)
		if state.Acked >= version {
			return
		}
		if state.Nack != nil {
			w.TB.Fatalf("Envoy refused %s %s: %s", state.Nack.TypeURL, state.Nack.Resource, state.Nack.Message)
		}
		select {
		case <-w.notified:
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			w.TB.Fatalf("version %d was not acknowledged within %s: %+v", version, patience, state)
		}
	}
}

// Proxy is a running Envoy.
type Proxy struct {
	TB        testing.TB
	Gateway   types.NamespacedName
	AdminPort uint32
	StatsPort uint32
	// Dir holds the configuration, and the certificates in its folder certs.
	Dir string
	Log *bytes.Buffer

	output    io.Writer // of its access log; Log if the test does not say otherwise
	rotations int
	command   *exec.Cmd
	exited    chan struct{}
	ended     atomic.Bool
}

// StartProxy starts an Envoy that listens on IPv4.
func (w *World) StartProxy(gateway types.NamespacedName) *Proxy {
	w.TB.Helper()
	return w.StartProxyWith(gateway, func(*xds.BootstrapParams) {})
}

// StartProxyOn starts an Envoy that listens on IPv6 too or not.
func (w *World) StartProxyOn(gateway types.NamespacedName, ipv6 bool) *Proxy {
	w.TB.Helper()
	return w.StartProxyWith(gateway, func(p *xds.BootstrapParams) { p.IPv6 = ipv6 })
}

// StartProxyWith starts an Envoy for a gateway, with parameters that the test changes, and waits until
// its admin interface answers. It ends with the test; its log is printed when the test failed.
func (w *World) StartProxyWith(gateway types.NamespacedName, change func(*xds.BootstrapParams)) *Proxy {
	w.TB.Helper()
	p := w.newProxy(gateway)
	w.writeFiles(p, change)
	w.run(p, 2)
	return p
}

// newProxy gives a proxy its certificates and ports. It does not run yet.
func (w *World) newProxy(gateway types.NamespacedName) *Proxy {
	w.TB.Helper()
	p := &Proxy{
		TB: w.TB, Gateway: gateway, Dir: w.TB.TempDir(), Log: &bytes.Buffer{},
		AdminPort: FreePort(w.TB), StatsPort: FreePort(w.TB), exited: make(chan struct{}),
	}
	p.output = p.Log
	w.WriteCertificates(p, gateway)
	return p
}

// writeFiles gives a proxy what it starts with.
func (w *World) writeFiles(p *Proxy, change func(*xds.BootstrapParams)) {
	w.TB.Helper()
	params := xds.BootstrapParams{
		Gateway: p.Gateway, NodeID: "proxy-0",
		ControlPlaneHost: "127.0.0.1", ControlPlanePort: w.Port, ControlPlaneName: "localhost",
		CertDir: filepath.Join(p.Dir, "certs"), ConfigDir: p.Dir,
		AdminPort: p.AdminPort, StatsPort: p.StatsPort,
		MaxHeapBytes: 1 << 30,
	}
	change(&params)
	for name, content := range xds.Files(params) {
		w.write(filepath.Join(p.Dir, name), content)
	}
}

// run starts the program with so many worker threads, and waits until its admin interface answers.
func (w *World) run(p *Proxy, workers int) {
	w.TB.Helper()
	level := os.Getenv("ENVOYTEST_LEVEL")
	if level == "" {
		level = "warning"
	}
	p.command = exec.Command(os.Getenv("ENVOY"), "-c", filepath.Join(p.Dir, xds.FileBootstrap),
		"--concurrency", strconv.Itoa(workers), "--disable-hot-restart", "--log-level", level)
	p.command.Stdout, p.command.Stderr = p.output, p.Log
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		w.TB.Fatal(err)
	}
	go func() {
		_ = p.command.Wait()
		close(p.exited)
	}()
	w.TB.Cleanup(p.Stop)
	w.Eventually("Envoy's admin interface answers", func() error {
		select {
		case <-p.exited:
			w.TB.Fatalf("Envoy ended at its start:\n%s", p.Log)
		default:
		}
		_, err := p.Admin("/server_info")
		return err
	})
}

// WriteCertificates gives the proxy a new certificate that names a gateway.
func (w *World) WriteCertificates(p *Proxy, gateway types.NamespacedName) {
	w.TB.Helper()
	issued := time.Now
	if w.ProxyIssued != nil {
		issued = w.ProxyIssued
	}
	pair, err := pki.NewProxy(w.Authority, gateway, issued(), rand.Reader)
	if err != nil {
		w.TB.Fatal(err)
	}
	// As the kubelet does it: the files are links through ..data, which is moved to a new
	// folder at once.
	dir := filepath.Join(p.Dir, "certs")
	p.rotations++
	folder := fmt.Sprintf("..%d", p.rotations)
	if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
		w.TB.Fatal(err)
	}
	for name, content := range map[string][]byte{"tls.crt": pair.Cert, "tls.key": pair.Key, "ca.crt": w.Authority.Cert} {
		w.write(filepath.Join(dir, folder, name), content)
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			w.TB.Fatal(err)
		}
	}
	if err := errors.Join(
		os.Symlink(folder, filepath.Join(dir, "..data_tmp")),
		os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")),
	); err != nil {
		w.TB.Fatal(err)
	}
}

func (w *World) write(path string, content []byte) {
	w.TB.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		w.TB.Fatal(err)
	}
}

// Stop ends the proxy.
func (p *Proxy) Stop() {
	if p.ended.Swap(true) {
		return
	}
	_ = p.command.Process.Kill()
	<-p.exited
	if p.TB.Failed() {
		p.TB.Logf("Envoy's log:\n%s", p.Log)
	}
}

// Admin gets a page of the admin interface.
func (p *Proxy) Admin(path string) (string, error) {
	return get("http://" + Address(p.AdminPort) + path)
}

// Stats gets a page of the listener for probes and metrics.
func (p *Proxy) Stats(path string) (string, error) {
	return get("http://" + Address(p.StatsPort) + path)
}

func get(url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, body)
	}
	return string(body), err
}

// Eventually waits until check gives no error.
func (w *World) Eventually(what string, check func() error) {
	w.TB.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.TB.Fatalf("not within %s: %s: %v", patience, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// The ports of tests: below those that the kernel gives to outgoing connections, one of
// which could otherwise take a port between its choice and its use. Each process begins
// somewhere else.
const firstPort, portCount = 20000, 10000

var lastPort atomic.Uint32

func init() { lastPort.Store(uint32(os.Getpid()*97) % portCount) }

// FreePort is a port of loopback that nobody listens on now, and no other test of this
// process is given.
func FreePort(tb testing.TB) uint32 {
	tb.Helper()
	for range portCount {
		port := firstPort + lastPort.Add(1)%portCount
		listener, err := net.Listen("tcp", Address(port))
		if err != nil {
			continue
		}
		_ = listener.Close()
		return port
	}
	tb.Fatal("no port of loopback is free")
	return 0
}

// Address is a port of loopback as host:port.
func Address(port uint32) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))) }
