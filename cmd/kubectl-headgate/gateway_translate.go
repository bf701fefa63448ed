// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"headgate.dev/headgate/cmd/kubectl-headgate/explain"
	"headgate.dev/headgate/cmd/kubectl-headgate/world"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/served"
	"headgate.dev/headgate/dataplane/xds"
)

type translateOptions struct {
	files        []string
	output       string
	problemsOnly bool
	quiet        bool
}

func (a *app) translateCommand() *cobra.Command {
	var o translateOptions
	cmd := &cobra.Command{
		Use:   "translate -f FILE|DIR|-",
		Short: "Turn manifests into Envoy configuration, or into what is wrong with them",
		Long: `Turn manifests into the Envoy configuration that Headgate would serve, without a
cluster. The input is any mix of Gateway API objects, ProxyConfigs, Services, EndpointSlices,
Secrets, ConfigMaps and Namespaces, as YAML or JSON; a directory is read with all below it.

A GatewayClass or Namespace that is not in the input is assumed, with a note. Fields that
the API does not have are faults; its other rules (enumerations, CEL) are the API server's:
kubectl apply --dry-run=server tells them. Private keys are never printed.

Exit codes, for CI:
  0  all is served as written
  1  problems: something would be refused, or not served as written; all are listed
  2  the command line or the input cannot be understood`,
		Example: `  kubectl headgate gateway translate -f manifests/ --problems-only
  kustomize build . | kubectl headgate gateway translate -f - -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("write -f before %q: manifests are named with -f FILE, -f DIR or -f -", args[0])
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			if err := checkOutput(o.output); err != nil {
				return err
			}
			if len(o.files) == 0 {
				return usageError("name the manifests: -f FILE, -f DIR or -f - for standard input")
			}
			return a.translate(o)
		},
	}
	cmd.Flags().StringSliceVarP(&o.files, "filename", "f", nil, "file or directory with manifests, or - for standard input; may be given several times")
	cmd.Flags().BoolVar(&o.problemsOnly, "problems-only", false, "print what is wrong, and no configuration")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print no notes")
	outputFlag(cmd, &o.output, "yaml", "json")
	return cmd
}

// translation is the configuration of one Gateway's proxies.
type translation struct {
	Gateway string         `json:"gateway"`
	Config  map[string]any `json:"config"`
}

func (a *app) translate(o translateOptions) error {
	w := world.New()
	w.Resources.ExternalNames = a.externalNames
	read, err := a.readManifests(w, o.files)
	if err != nil {
		return err
	}
	if len(read.Faults) > 0 {
		for _, fault := range read.Faults {
			fmt.Fprintln(a.streams.ErrOut, "Error: "+fault)
		}
		return &exitCode{code: exitUsage}
	}
	if !o.quiet {
		for _, note := range slices.Concat(read.Notes, w.Assume()) {
			a.note("%s", note)
		}
	} else {
		w.Assume()
	}
	g := graph.Build(w.Resources)
	findings := explain.Problems(w, g)
	if len(w.Resources.Gateways) == 0 {
		findings = append(findings, explain.Finding{Object: "the input", Message: "it has no Gateway, so nothing would be served: add the Gateway that the routes name"})
	}
	if err := a.printTranslation(w, g, findings, o); err != nil {
		return err
	}
	if explain.Failed(findings) {
		return &exitCode{code: exitError}
	}
	return nil
}

func (a *app) printTranslation(w *world.World, g *graph.Graph, findings []explain.Finding, o translateOptions) error {
	if o.problemsOnly {
		if o.output != "" {
			return a.printPlain(map[string]any{"problems": slices.Concat([]explain.Finding{}, findings)}, o.output)
		}
		for _, f := range findings {
			if _, err := fmt.Fprintln(a.streams.Out, f); err != nil {
				return err
			}
		}
		return nil
	}
	for _, f := range findings {
		fmt.Fprintln(a.streams.ErrOut, f)
	}
	all := []translation{}
	for _, gw := range g.Gateways {
		snap := xds.Translate(g, gw.Key)
		config := served.FromSnapshot(snap, w.Endpoints(snap))
		document, err := config.Document()
		if err != nil {
			return err
		}
		all = append(all, translation{gw.Key.String(), document})
	}
	return a.printTranslations(all, o.output)
}

// printTranslations prints a list as JSON, or documents of YAML.
func (a *app) printTranslations(all []translation, output string) error {
	if output == "json" {
		return a.printPlain(all, output)
	}
	for i, t := range all {
		if i > 0 {
			fmt.Fprintln(a.streams.Out, "---")
		}
		if err := a.printPlain(t, "yaml"); err != nil {
			return err
		}
	}
	return nil
}

// readManifests reads all files; what cannot be opened is bad input.
func (a *app) readManifests(w *world.World, names []string) (world.Read, error) {
	namespace := "default"
	if a.flags.Namespace != nil && *a.flags.Namespace != "" {
		namespace = *a.flags.Namespace
	}
	var all world.Read
	add := func(source string, data []byte) {
		r := w.AddYAML(source, data, namespace)
		all.Faults, all.Notes, all.Objects = append(all.Faults, r.Faults...), append(all.Notes, r.Notes...), all.Objects+r.Objects
	}
	for _, name := range names {
		if name == "-" {
			data, err := io.ReadAll(a.streams.In)
			if err != nil {
				return all, fmt.Errorf("reading standard input: %w", err)
			}
			add("standard input", data)
			continue
		}
		files, err := manifestFiles(name)
		if err != nil {
			return all, usageError("%v", err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return all, usageError("%v", err)
			}
			add(file, data)
		}
	}
	if all.Objects == 0 && len(all.Faults) == 0 {
		return all, usageError("there is no object of the Gateway API or of what it refers to in the input")
	}
	return all, nil
}

// manifestFiles are the file itself, or those below a directory that look like
// manifests, sorted.
func manifestFiles(name string) ([]string, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no file or directory %q", name)
	}
	if err != nil || !info.IsDir() {
		return []string{name}, err
	}
	var files []string
	err = filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)) {
			files = append(files, path)
		}
		return err
	})
	if err == nil && len(files) == 0 {
		err = errors.New(name + " has no file that ends in .yaml, .yml or .json")
	}
	return files, err
}
