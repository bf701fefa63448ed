// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package env is the ground that scenarios and the demo stand on: a cluster, a
// namespace to throw away, the images of this source tree, and what is installed
// from them.
//
// The cluster is that of KUBECONFIG, or else the node that `go run ./e2e/cluster
// up` runs on this machine. Every wait says, when it gives up, what it waited for
// and what it saw last.
package env

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	"headgate.dev/headgate/api/v1beta1"
)

// FieldManager owns what scenarios apply.
const FieldManager = "headgate-e2e"

// Cluster is the cluster that scenarios run on, reached as administrator.
type Cluster struct {
	Kubeconfig string
	Config     *rest.Config
	// Client knows the types of Kubernetes, of the Gateway API and of Headgate. It
	// reads from the API server, not from a cache.
	Client    client.Client
	Clientset kubernetes.Interface
	// Local says that the cluster is the node of this machine, into which images
	// can be loaded.
	Local bool
	// Repo is the root of the source tree.
	Repo string
	// Out gets a line per step.
	Out io.Writer

	mu     sync.Mutex
	images map[string]string
	helm   string
}

// Connect connects to the cluster of KUBECONFIG, or brings this machine's node up.
func Connect(ctx context.Context, out io.Writer) (*Cluster, error) {
	repo, err := sourceTree()
	if err != nil {
		return nil, err
	}
	c := &Cluster{Repo: repo, Out: out, images: map[string]string{}}
	own, err := c.cluster(ctx, "kubeconfig")
	if err != nil {
		return nil, err
	}
	own = strings.TrimSpace(own)
	c.Kubeconfig = os.Getenv("KUBECONFIG")
	if c.Kubeconfig == "" || c.Kubeconfig == own {
		c.Kubeconfig, c.Local = own, true
		if _, err := c.cluster(ctx, "up"); err != nil {
			return nil, err
		}
	}
	rules := &clientcmd.ClientConfigLoadingRules{Precedence: filepath.SplitList(c.Kubeconfig)}
	c.Config, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading KUBECONFIG=%s: %w", c.Kubeconfig, err)
	}
	// Scenarios poll; the client's own brake would make them late.
	c.Config.QPS, c.Config.Burst = 200, 400
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	if c.Client, err = client.New(c.Config, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	if c.Clientset, err = kubernetes.NewForConfig(c.Config); err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	return c, nil
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	return scheme, errors.Join(
		clientgoscheme.AddToScheme(scheme), apiextensionsv1.AddToScheme(scheme),
		gatewayv1.Install(scheme), gatewayv1beta1.Install(scheme), v1beta1.AddToScheme(scheme),
	)
}

// Image returns the reference of an image of `go run ./e2e/cluster images`, after
// loading it into the local node. On another cluster $IMAGE_NAME wins; without it
// the reference is what `images` says to load there.
func (c *Cluster) Image(ctx context.Context, name string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ref := c.images[name]; ref != "" {
		return ref, nil
	}
	variable := "IMAGE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	if ref := os.Getenv(variable); ref != "" && !c.Local {
		c.images[name] = ref
		return ref, nil
	}
	out, err := c.cluster(ctx, "images", "-json", name)
	if err != nil {
		return "", err
	}
	var made []struct {
		Name string
		Refs []string
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil || len(made) != 1 || len(made[0].Refs) == 0 {
		return "", fmt.Errorf("images %s answered %q", name, out)
	}
	c.images[name] = made[0].Refs[0]
	return c.images[name], nil
}

// Helm runs the pinned helm against the cluster and returns what it printed.
func (c *Cluster) Helm(ctx context.Context, args ...string) (string, error) {
	helm, err := c.helmPath(ctx)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, helm, append([]string{"--kubeconfig", c.Kubeconfig}, args...)...)
	cmd.Dir = c.Repo
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("helm %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

func (c *Cluster) helmPath(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.helm == "" {
		out, err := c.cluster(ctx, "build", "helm")
		if err != nil {
			return "", err
		}
		_, dir, ok := strings.Cut(strings.TrimSpace(out), "\t")
		if !ok {
			return "", fmt.Errorf("build helm answered %q", out)
		}
		c.helm = filepath.Join(dir, "helm")
	}
	return c.helm, nil
}

// cluster runs a command of the cluster program. Its progress goes to Out.
func (c *Cluster) cluster(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"run", "./e2e/cluster"}, args...)...)
	cmd.Dir = c.Repo
	cmd.Env = os.Environ()
	var said bytes.Buffer
	cmd.Stderr = io.MultiWriter(c.Out, &said)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go run ./e2e/cluster %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	return string(out), nil
}

func sourceTree() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(mod, []byte("module headgate.dev/headgate\n")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside Headgate's source tree", start)
		}
	}
}

// ForTest connects for a test, whose log gets the progress. Without KUBECONFIG
// the test is skipped: `make e2e` sets it, and a plain `go test ./...` should not
// start a cluster.
func ForTest(t testing.TB) *Cluster {
	t.Helper()
	if os.Getenv("KUBECONFIG") == "" {
		t.Skip("needs a cluster: run `make e2e`, or set KUBECONFIG")
	}
	c, err := Connect(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// SpaceForTest creates a namespace that goes when the test has passed. After a
// failure it stays, for looking into, and the log says where.
func (c *Cluster) SpaceForTest(t testing.TB, prefix string) *Space {
	t.Helper()
	s, err := c.NewSpace(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("namespace %s is kept for looking into", s.Name)
			return
		}
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return s
}
