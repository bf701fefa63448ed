// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/cmd/kubectl-headgate/view"
)

type statusOptions struct {
	everywhere bool
	watch      bool
	exitCode   bool
	output     string
}

func (a *app) statusCommand() *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show a release: weights, steps, metrics, and what it waits for",
		Long: `Show a Canary: phase, weights, steps, the verdict on each metric with its numbers,
what it waits for and what happened last. Without a name: one line per Canary.`,
		Example: `  kubectl headgate status
  kubectl headgate status checkout -n shop --watch
  kubectl headgate status checkout -o json`,
		Args:              atMostOneName,
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"", "json", "yaml"}, o.output) {
				return usageError("-o %s: write json or yaml", o.output)
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return a.statusOfAll(cmd.Context(), c, o)
			}
			if o.everywhere {
				return usageError("give a name or --all-namespaces, not both")
			}
			return a.statusOfOne(cmd.Context(), c, args[0], o)
		},
	}
	cmd.Flags().BoolVarP(&o.everywhere, "all-namespaces", "A", false, "list the Canaries of all namespaces")
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "keep showing changes; on a terminal the page is redrawn")
	cmd.Flags().BoolVar(&o.exitCode, "exit-code", false, "end with 3, 4 or 5 unless the Canary is at rest and its last release did not fail")
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) statusOfOne(ctx context.Context, c *cluster, name string, o statusOptions) error {
	if o.watch {
		return quietEnd(ctx, a.watchOne(ctx, c, name, o))
	}
	canary, err := c.get(ctx, name)
	if err != nil {
		return err
	}
	if o.output != "" {
		err = a.print(canary, o.output)
	} else {
		_, err = fmt.Fprint(a.streams.Out, view.Status(*canary, a.now(), a.style()))
	}
	if err != nil || !o.exitCode {
		return err
	}
	return codeOf(view.OutcomeOf(*canary))
}

func codeOf(outcome view.Outcome) error {
	switch outcome {
	case view.Rejected:
		return &exitCode{code: exitRejected}
	case view.InProgress:
		return &exitCode{code: exitInProgress}
	case view.NeedsPerson:
		return &exitCode{code: exitPerson}
	}
	return nil
}

// watchOne redraws the page on a terminal, every second because it shows times;
// elsewhere it prints what is new.
func (a *app) watchOne(ctx context.Context, c *cluster, name string, o statusOptions) error {
	if o.output != "" {
		return c.follow(ctx, name, func(canary *v1beta1.Canary) (bool, error) { return false, a.print(canary, o.output) })
	}
	if !a.terminal() {
		var lines progressLines
		return c.follow(ctx, name, func(canary *v1beta1.Canary) (bool, error) {
			return false, lines.print(a.streams.Out, *canary)
		})
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen, ended := make(chan v1beta1.Canary), make(chan error, 1)
	go func() {
		ended <- c.follow(ctx, name, func(canary *v1beta1.Canary) (bool, error) {
			select {
			case seen <- *canary:
			case <-ctx.Done():
			}
			return false, nil
		})
	}()
	var current *v1beta1.Canary
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case canary := <-seen:
			current = &canary
		case <-tick.C:
		case err := <-ended:
			return err
		}
		if current != nil {
			a.redraw(view.Status(*current, a.now(), a.style()))
		}
	}
}

// redraw writes the page from the upper left corner. Each line is cleared as it
// is written, and what is below as well: nothing flickers.
func (a *app) redraw(page string) {
	out := "\x1b[H"
	if !a.drawn {
		a.drawn, out = true, "\x1b[2J\x1b[H"
	}
	for _, r := range page {
		if r == '\n' {
			out += "\x1b[K"
		}
		out += string(r)
	}
	fmt.Fprint(a.streams.Out, out+"\x1b[J")
}

func (a *app) statusOfAll(ctx context.Context, c *cluster, o statusOptions) error {
	for {
		list, err := c.list(ctx, o.everywhere)
		if err != nil {
			return quietEnd(ctx, err)
		}
		switch table := view.Table(list.Items, o.everywhere, a.now(), a.style()); {
		case o.output != "":
			err = a.print(list, o.output)
		case len(list.Items) == 0 && o.everywhere:
			_, err = fmt.Fprintln(a.streams.ErrOut, "There are no Canaries in this cluster.")
		case len(list.Items) == 0:
			_, err = fmt.Fprintf(a.streams.ErrOut, "There are no Canaries in namespace %q.\n", c.namespace)
		case o.watch && a.terminal():
			a.redraw(table)
		default:
			_, err = fmt.Fprint(a.streams.Out, table)
		}
		if err != nil || !o.watch {
			return err
		}
		if err := a.nextChange(ctx, c, o, list.ResourceVersion); err != nil {
			return quietEnd(ctx, err)
		}
	}
}

// nextChange returns when something changed since a version; on a terminal also
// after a second, because the table shows ages.
func (a *app) nextChange(ctx context.Context, c *cluster, o statusOptions, since string) error {
	w, err := c.watch(ctx, "", o.everywhere, since)
	if err != nil {
		return c.explain(err, "")
	}
	defer w.Stop()
	var tick <-chan time.Time
	if a.terminal() {
		tick = time.After(time.Second)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-tick:
	case <-w.ResultChan():
		// Changes come in groups; one table shows them all.
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

func (a *app) print(object runtime.Object, format string) error {
	stripped := object.DeepCopyObject()
	if list, ok := stripped.(*v1beta1.ReleaseList); ok {
		list.APIVersion, list.Kind = v1beta1.GroupVersion.String(), "ReleaseList"
		for i := range list.Items {
			list.Items[i].ManagedFields = nil
			list.Items[i].APIVersion, list.Items[i].Kind = v1beta1.GroupVersion.String(), "Release"
		}
	}
	for _, canary := range canariesOf(stripped) {
		canary.ManagedFields = nil
		// Into leaves them empty; a file that is applied again needs them.
		canary.APIVersion, canary.Kind = v1beta1.GroupVersion.String(), "Canary"
	}
	data, err := json.MarshalIndent(stripped, "", "  ")
	if err == nil && format == "yaml" {
		data, err = yaml.JSONToYAML(data)
	}
	if err != nil {
		return err
	}
	if format == "json" {
		data = append(data, '\n')
	}
	_, err = a.streams.Out.Write(data)
	return err
}

func canariesOf(object runtime.Object) []*v1beta1.Canary {
	switch o := object.(type) {
	case *v1beta1.Canary:
		return []*v1beta1.Canary{o}
	case *v1beta1.CanaryList:
		o.APIVersion, o.Kind = v1beta1.GroupVersion.String(), "CanaryList"
		var list []*v1beta1.Canary
		for i := range o.Items {
			list = append(list, &o.Items[i])
		}
		return list
	}
	return nil
}

// quietEnd makes the end of the context, Ctrl-C, a normal end.
func quietEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
