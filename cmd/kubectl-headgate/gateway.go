// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

func (a *app) gatewayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "See what the Gateways serve, and why not",
		Long: `See what the Gateways serve, what is wrong with them, and why a route is not attached.

list, status and why read the API server. routes and config read a running proxy, through
the API server as kubectl port-forward does. translate needs no cluster.`,
		Aliases: []string{"gateways", "gw"},
		Args:    onlyCommands,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().BoolVar(&a.externalNames, "external-name-services", false, "take it that Headgate's chart value gateway.externalNameServices is true")
	cmd.AddCommand(a.gatewayListCommand(), a.gatewayStatusCommand(), a.routesCommand(), a.configCommand(), a.gatewayWhyCommand(), a.translateCommand())
	return cmd
}

// outputFlag adds -o with its formats.
func outputFlag(cmd *cobra.Command, output *string, formats ...string) {
	cmd.Flags().StringVarP(output, "output", "o", "", formats[0]+" or "+formats[1])
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

func checkOutput(output string) error {
	if !slices.Contains([]string{"", "json", "yaml"}, output) {
		return usageError("-o %s: write json or yaml", output)
	}
	return nil
}

// printPlain prints data as JSON or YAML; several documents of YAML are separated.
func (a *app) printPlain(data any, output string) error {
	if output == "json" {
		text, err := json.MarshalIndent(data, "", "    ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(a.streams.Out, string(text))
		return err
	}
	text, err := yaml.Marshal(data)
	if err != nil {
		return err
	}
	_, err = a.streams.Out.Write(text)
	return err
}

// note tells something beside the answer.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.streams.ErrOut, "Note: "+format+"\n", args...)
}
