// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command cluster runs a real Kubernetes node on this machine, without Docker
// and without an image registry, for the end-to-end tests, the conformance suite
// and the demo.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/tools/clientcmd"

	"headgate.dev/headgate/e2e/cluster/internal/images"
	"headgate.dev/headgate/e2e/cluster/internal/layout"
	"headgate.dev/headgate/e2e/cluster/internal/loadbalancer"
	"headgate.dev/headgate/e2e/cluster/internal/node"
	"headgate.dev/headgate/e2e/cluster/internal/process"
	"headgate.dev/headgate/e2e/cluster/internal/programs"
)

const usage = `usage: go run ./e2e/cluster COMMAND

  up                   bring the node up, or back up; quick when it is up
  down                 stop the node and remove everything it left
  status               what runs; fails when the node is not healthy
  kubeconfig           print the path of the administrator's kubeconfig
  build [PROGRAM…]     build the pinned programs; print name and folder
  images [-json] [IMAGE…]
                       build images and load them into the node; with KUBECONFIG
                       set to another cluster, say how to load them there
  clean                down, and remove the cache

Everything is kept below $HEADGATE_CACHE (default ~/.cache/headgate).
`

func main() {
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(os.Stderr, usage)
			os.Exit(2)
		}
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return flag.ErrHelp
	}
	command, args := args[0], args[1:]
	// Called by the node itself.
	switch command {
	case "launch": // cgroup folder, network namespace, program and arguments
		return process.Launch(args[0], args[1], args[2:])
	case "load-balancer":
		config, err := clientcmd.BuildConfigFromFlags("", args[0])
		if err != nil {
			return err
		}
		return loadbalancer.Run(ctx, config, layout.LoadBalancerRange)
	}

	n, err := local()
	if err != nil {
		return err
	}
	switch command {
	case "kubeconfig":
		fmt.Println(n.Layout.Kubeconfig())
		return nil
	case "status":
		n.Out = os.Stdout
		return n.Status(ctx)
	}
	unlock, err := lock(n.Layout)
	if err != nil {
		return err
	}
	defer unlock()
	switch command {
	case "up":
		return n.Up(ctx)
	case "down":
		return n.Down(ctx)
	case "clean":
		if err := n.Down(ctx); err != nil {
			return err
		}
		return n.Layout.RemoveCache()
	case "build":
		return build(ctx, n, args)
	case "images":
		return loadImages(ctx, n, args)
	}
	return fmt.Errorf("no command %q\n%s", command, usage)
}

// local returns the node of this machine, built from the source tree around the
// working directory. Progress goes to stderr; stdout is for answers.
func local() (node.Node, error) {
	l, err := layout.FromEnv()
	if err != nil {
		return node.Node{}, err
	}
	repo, err := sourceTree()
	if err != nil {
		return node.Node{}, err
	}
	builder := programs.Builder{Source: filepath.Join(repo, "e2e", "cluster", "programs"), Cache: l.Programs(), Out: os.Stderr}
	maker := images.Maker{Repo: repo, Layout: l, Builder: builder, Out: os.Stderr}
	return node.Node{Layout: l, Images: maker, Out: os.Stderr}, nil
}

func sourceTree() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module headgate.dev/headgate\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside Headgate's source tree", start)
		}
	}
}

// lock lets one run at a time change the node and the cache.
func lock(l layout.Layout) (unlock func(), err error) {
	if err := os.MkdirAll(l.Cache, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(l.Lock(), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		fmt.Fprintln(os.Stderr, "another run holds", l.Lock(), "- waiting")
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			return nil, fmt.Errorf("locking %s: %w", l.Lock(), err)
		}
	}
	return func() { _ = f.Close() }, nil
}

// build prints one line per program: its name and the folder of its binaries; for
// envoy, which is fetched and not built, the path of the binary.
func build(ctx context.Context, n node.Node, names []string) error {
	envoy := len(names) == 0 || slices.Contains(names, "envoy")
	list := programs.All()
	if len(names) > 0 {
		var err error
		names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "envoy" })
		if list, err = programs.Named(names...); err != nil {
			return err
		}
	}
	for _, p := range list {
		dir, err := n.Images.Builder.Ensure(ctx, p)
		if err != nil {
			return err
		}
		fmt.Printf("%s\t%s\n", p.Name, dir)
	}
	if envoy {
		binary, err := n.Images.Envoy(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("envoy\t%s\n", binary)
	}
	return nil
}

func loadImages(ctx context.Context, n node.Node, args []string) error {
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	asJSON := flags.Bool("json", false, "print the images as JSON")
	if err := flags.Parse(args); err != nil {
		return err
	}
	names, explicit := flags.Args(), flags.NArg() > 0
	kubeconfig := os.Getenv("KUBECONFIG")
	other := kubeconfig != "" && kubeconfig != n.Layout.Kubeconfig()
	var pulled []images.Image
	switch {
	case other:
		wanted, public := images.ForOthers()
		for _, image := range public {
			if !explicit || slices.Contains(names, image.Name) {
				pulled = append(pulled, image)
			}
		}
		names = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
			return slices.ContainsFunc(public, func(i images.Image) bool { return i.Name == name })
		})
		if !explicit {
			names = wanted
		}
	case !explicit:
		names = images.Names()
	}
	var made []images.Image
	for _, name := range names {
		image, err := n.Images.Make(ctx, name)
		if errors.Is(err, images.ErrNoSource) && !explicit {
			fmt.Fprintln(os.Stderr, "skipped:", err)
			continue
		}
		if err != nil {
			return err
		}
		made = append(made, image)
	}
	if other {
		explainOther(os.Stderr, kubeconfig, made)
	} else if err := n.Load(ctx, made); err != nil {
		return err
	}
	made = append(made, pulled...)
	if *asJSON {
		return json.NewEncoder(os.Stdout).Encode(made)
	}
	for _, image := range made {
		fmt.Printf("%s\t%s\n", image.Name, image.Refs[0])
	}
	return nil
}

// explainOther says how to bring the images to a cluster that is not ours.
func explainOther(w io.Writer, kubeconfig string, made []images.Image) {
	if len(made) == 0 {
		return
	}
	var current string
	if config, err := clientcmd.LoadFromFile(kubeconfig); err == nil {
		current = config.CurrentContext
	}
	if kind, ok := strings.CutPrefix(current, "kind-"); ok {
		fmt.Fprintf(w, "KUBECONFIG names the kind cluster %s. Load the images there with:\n", kind)
		for _, image := range made {
			fmt.Fprintf(w, "  kind load image-archive %s --name %s\n", image.Archive, kind)
		}
		return
	}
	fmt.Fprintf(w, "KUBECONFIG names a cluster (%s) that this program cannot load images into. Push those that it cannot pull itself\n", current)
	fmt.Fprintln(w, "to a registry it can reach, and name them for the scenarios:")
	for _, image := range made {
		variable := "IMAGE_" + strings.ToUpper(strings.ReplaceAll(image.Name, "-", "_"))
		fmt.Fprintf(w, "  crane push %s REGISTRY/%s:TAG   # %s=REGISTRY/%s:TAG\n", image.Archive, image.Name, variable, image.Name)
	}
}
