// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package node runs a real Kubernetes node, and control plane, as plain
// processes in a network namespace of their own.
//
// Everything that one life of the node leaves on disk is below layout.Node();
// everything it leaves elsewhere is named in package layout. A node is
// disposable: what cannot be repaired is removed and made anew.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"headgate.dev/headgate/e2e/cluster/internal/images"
	"headgate.dev/headgate/e2e/cluster/internal/layout"
	"headgate.dev/headgate/e2e/cluster/internal/process"
	"headgate.dev/headgate/e2e/cluster/internal/programs"
)

// Node is the test node of this machine.
type Node struct {
	Layout layout.Layout
	Images images.Maker
	// Out gets a line per stage, with its duration.
	Out io.Writer
}

// table returns the records of the components. Programs may be started with it
// only after prepare.
func (n Node) table(group process.Group) process.Table {
	return process.Table{
		Records:  n.Layout.Records(),
		Logs:     n.Layout.Logs(),
		Launcher: []string{n.self(), "launch", group.Components(), netnsPath},
	}
}

// self is the copy of this program that components run: `go run` deletes its
// binary when it returns, and components outlive it.
func (n Node) self() string { return filepath.Join(n.Layout.Node(), "bin", "cluster") }

// state is what is found of a node before anything is changed.
type state struct {
	// alive and dead are component names.
	alive, dead []string
	// strays says why the living components cannot be kept, if so.
	strays string
	// older names living components that would be started differently today.
	older []string
}

func (n Node) inspect(group process.Group, stages []stage) state {
	var s state
	t := n.table(group)
	known := map[int]bool{}
	for _, c := range slices.Concat(stages...) {
		record, ok := t.Get(c.Name)
		if !ok || !record.Alive() {
			s.dead = append(s.dead, c.Name)
			continue
		}
		s.alive = append(s.alive, c.Name)
		known[record.PID] = true
		if record.Hash != c.Hash() {
			s.older = append(s.older, c.Name)
		}
		if !inNamespace(record.PID) {
			s.strays = c.Name + " lives in a network namespace that is gone"
		}
	}
	if len(s.alive) == 0 {
		return s
	}
	switch {
	case !group.Exists():
		s.strays = "its cgroup is gone"
	case !pkiUsable(n.Layout.PKI(), time.Now()):
		s.strays = "its certificates are gone or near their end"
	}
	return s
}

// Up brings the node up, or brings back what is missing of it, and waits until
// pods can run and names resolve.
func (n Node) Up(ctx context.Context) error {
	begin := time.Now()
	if err := n.preflight(ctx); err != nil {
		return err
	}
	group, err := process.FindGroup(layout.Cgroup)
	if err != nil {
		return err
	}
	plan, err := n.plan(ctx)
	if err != nil {
		return err
	}
	found := n.inspect(group, plan.stages)
	if len(found.dead) == 0 && found.strays == "" && n.healthy(ctx) == nil {
		if len(found.older) > 0 {
			fmt.Fprintf(n.Out, "the node runs with older settings of %s; `down` and `up` would renew it\n", strings.Join(found.older, ", "))
		}
		fmt.Fprintf(n.Out, "node is up (checked in %s)\n", time.Since(begin).Round(10*time.Millisecond))
		return nil
	}
	fresh := len(found.alive) == 0 || found.strays != ""
	if !fresh {
		err := n.repair(ctx, group, plan, found)
		if err == nil {
			fmt.Fprintf(n.Out, "node is up again (%s)\n", time.Since(begin).Round(10*time.Millisecond))
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		if len(found.dead) == 0 {
			// Nothing is broken that starting over would mend for certain, and what
			// runs on the node would be lost: a machine at its limits looks like this.
			return fmt.Errorf("every component runs, but %w; if the machine is not just busy, `down` and `up` start over", err)
		}
		fmt.Fprintf(n.Out, "cannot repair the node: %v\nstarting over\n", err)
	} else if found.strays != "" {
		fmt.Fprintf(n.Out, "the node cannot be kept: %s; starting over\n", found.strays)
	}
	if err := n.remove(ctx, group, plan.stages); err != nil {
		return err
	}
	if tryDial(ctx, "unix", devicePlugins+"/kubelet.sock") == nil {
		return errors.New("a kubelet that is not ours runs on this machine, and two cannot; test against its cluster with KUBECONFIG")
	}
	if err := n.start(ctx, group, plan, allNames(plan.stages)); err != nil {
		return err
	}
	fmt.Fprintf(n.Out, "node is up (%s)\n", time.Since(begin).Round(10*time.Millisecond))
	return nil
}

// repair starts the components that are missing and waits for the whole. It is
// patient: on a machine that is busy with tests, all of this takes ten times as long.
func (n Node) repair(ctx context.Context, group process.Group, plan plan, found state) error {
	if len(found.dead) > 0 {
		fmt.Fprintf(n.Out, "not running: %s; starting\n", strings.Join(found.dead, ", "))
	} else {
		fmt.Fprintf(n.Out, "all components run, but %v; waiting\n", n.healthy(ctx))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("it did not become healthy within 2m"))
	defer cancel()
	return n.start(ctx, group, plan, found.dead)
}

// plan is what a node consists of.
type plan struct {
	stages  []stage
	files   map[string]string
	dns     string
	bin     binaries
	preload []images.Image
}

// plan builds or finds the programs and derives every command line and file.
func (n Node) plan(ctx context.Context) (plan, error) {
	var p plan
	for name, dir := range map[string]*string{
		"kubernetes": &p.bin.Kubernetes, "etcd": &p.bin.Etcd, "containerd": &p.bin.Containerd,
	} {
		found, err := programs.Named(name)
		if err != nil {
			return p, err
		}
		if *dir, err = n.Images.Builder.Ensure(ctx, found[0]); err != nil {
			return p, err
		}
	}
	p.bin.Self = n.self()
	for _, name := range []string{"pause", "coredns"} {
		image, err := n.Images.Make(ctx, name)
		if err != nil {
			return p, err
		}
		p.preload = append(p.preload, image)
	}
	s := settings{Layout: n.Layout, CNIPlugins: cniPlugins(), PauseImage: p.preload[0].Refs[0], CoreDNSImage: p.preload[1].Refs[0]}
	var err error
	if p.files, err = s.configs(); err != nil {
		return p, err
	}
	if p.dns, err = s.render("coredns.yaml"); err != nil {
		return p, err
	}
	p.stages = components(n.Layout, p.bin, p.files)
	return p, nil
}

// start starts the named components, stage by stage, and waits for each stage.
func (n Node) start(ctx context.Context, group process.Group, p plan, names []string) error {
	if err := n.prepare(ctx, group, p); err != nil {
		return err
	}
	r := bringUp{node: n, table: n.table(group), ended: map[string]<-chan struct{}{}}
	waits := []func(context.Context) error{r.waitControlPlane, r.waitNode}
	for i, stage := range p.stages {
		for _, c := range stage {
			if !slices.Contains(names, c.Name) {
				continue
			}
			ended, err := r.table.Start(c)
			if err != nil {
				return err
			}
			r.ended[c.Name] = ended
		}
		if i == 0 {
			if err := r.loadImages(ctx, p); err != nil {
				return err
			}
		}
		if err := waits[i](ctx); err != nil {
			return err
		}
	}
	return r.waitDNS(ctx, p)
}

// prepare makes what components expect to find.
func (n Node) prepare(ctx context.Context, group process.Group, p plan) error {
	created, err := ensurePKI(n.Layout.PKI(), time.Now())
	if err != nil {
		return fmt.Errorf("making certificates: %w", err)
	}
	if created {
		fmt.Fprintln(n.Out, "made new certificates: older kubeconfigs are void")
	}
	for _, dir := range []string{n.Layout.Records(), n.Layout.Logs(), n.Layout.Config(), filepath.Dir(n.self()), filepath.Join(layout.RunDir, "shims")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// containerd refuses a folder for shim sockets that others can enter.
	if err := os.Chmod(filepath.Join(layout.RunDir, "shims"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(ownerFile, []byte(n.Layout.Cache), 0o644); err != nil {
		return err
	}
	if err := copySelf(n.self()); err != nil {
		return fmt.Errorf("copying this program: %w", err)
	}
	files := maps.Clone(p.files)
	for _, name := range []string{"kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		if files[name+".kubeconfig"], err = kubeconfig(n.Layout.PKI(), server, name); err != nil {
			return fmt.Errorf("writing the kubeconfig of %s: %w", name, err)
		}
	}
	if err := writeFiles(n.Layout.Config(), files); err != nil {
		return fmt.Errorf("writing configuration: %w", err)
	}
	admin, err := kubeconfig(n.Layout.PKI(), server, "admin")
	if err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	if err := os.WriteFile(n.Layout.Kubeconfig(), []byte(admin), 0o600); err != nil {
		return err
	}
	if err := group.Create(); err != nil {
		return err
	}
	if err := ensureNetwork(ctx); err != nil {
		return fmt.Errorf("preparing the network: %w", err)
	}
	return nil
}

func allNames(stages []stage) []string {
	var names []string
	for _, c := range slices.Concat(stages...) {
		names = append(names, c.Name)
	}
	return names
}

// copySelf copies the running program to a path that stays. A copy that is being
// run cannot be written to, so it is replaced by a rename.
func copySelf(to string) error {
	from, err := os.Executable()
	if err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to+".new", data, 0o755); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}
