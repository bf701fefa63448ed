// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"headgate.dev/headgate/cmd/kubectl-headgate/view"
)

func (a *app) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "why NAME",
		Short:             "Explain what happened, when, with which numbers, and what to do next",
		Args:              oneName,
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			canary, err := c.get(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.streams.Out, view.Why(*canary, a.now(), a.style()))
			return err
		},
	}
}
