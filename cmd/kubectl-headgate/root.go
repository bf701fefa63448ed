// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"headgate.dev/headgate/cmd/kubectl-headgate/view"
)

// app is what every command needs.
type app struct {
	streams genericiooptions.IOStreams
	flags   *genericclioptions.ConfigFlags
	now     func() time.Time
	// drawn is true once a page was drawn over what the terminal showed before.
	drawn bool
	// externalNames says that the Headgate that is spoken of serves Services of type ExternalName.
	externalNames bool
}

func newRoot(streams genericiooptions.IOStreams) *cobra.Command {
	a := &app{streams: streams, flags: connectionFlags(), now: time.Now}
	root := &cobra.Command{
		Use:   "kubectl-headgate",
		Short: "Watch and steer releases, and see what the Gateways serve",
		Long: `Watch and steer the releases of Headgate's Canaries, and see what its Gateways serve.

Exit codes, for scripts:
  0  done; with wait or status --exit-code: at rest, the last release did not fail
  1  an error
  2  the command line cannot be understood
  3  the release was rolled back or aborted
  4  still in progress when --timeout had passed
  5  waiting for a person: an approval, a paused or suspended release, a Canary that is stalled`,
		Example: `  kubectl headgate status -A
  kubectl headgate status checkout --watch
  kubectl headgate why checkout
  kubectl headgate history checkout
  kubectl headgate promote checkout
  kubectl headgate abort checkout --reason "wrong prices"
  kubectl headgate wait checkout --timeout 30m
  kubectl headgate gateway routes front`,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl headgate"},
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          onlyCommands,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%v\nSee '%s --help'.", err, cmd.CommandPath())
	})
	a.flags.AddFlags(root.PersistentFlags())
	root.AddCommand(a.statusCommand(), a.whyCommand(), a.historyCommand(), a.waitCommand())
	root.AddCommand(a.steeringCommands()...)
	root.AddCommand(a.gatewayCommand(), a.versionCommand())
	_ = root.RegisterFlagCompletionFunc("namespace", cobra.NoFileCompletions)
	return root
}

// connectionFlags are kubectl's flags that say which cluster and namespace.
func connectionFlags() *genericclioptions.ConfigFlags {
	all := genericclioptions.NewConfigFlags(true)
	return &genericclioptions.ConfigFlags{
		KubeConfig:       all.KubeConfig,
		Context:          all.Context,
		Namespace:        all.Namespace,
		Impersonate:      all.Impersonate,
		ImpersonateGroup: all.ImpersonateGroup,
		Timeout:          all.Timeout,
	}
}

func onlyCommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageError("there is no command %q\nSee '%s --help'.", args[0], cmd.CommandPath())
}

// noArguments is for commands that take flags only.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageError("%s takes no arguments, only flags: remove %q\nSee '%s --help'.", cmd.CommandPath(), args[0], cmd.CommandPath())
}

// oneName wants the name of a Canary.
func oneName(cmd *cobra.Command, args []string) error {
	switch len(args) {
	case 1:
		return nil
	case 0:
		return usageError("name the Canary: %s NAME ('kubectl headgate status' lists them)", cmd.CommandPath())
	}
	return usageError("name one Canary, not %d", len(args))
}

func atMostOneName(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError("name one Canary, or none for all of the namespace")
	}
	return nil
}

// terminal says whether output goes to a person who watches.
func (a *app) terminal() bool {
	f, ok := a.streams.Out.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

func (a *app) style() view.Style { return view.Style{Color: a.terminal()} }

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this plugin",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.streams.Out, version)
			return err
		},
	}
}
