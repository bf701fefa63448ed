// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/cmd/kubectl-headgate/view"
)

func (a *app) whyCommand() *cobra.Command {
	var attempt int64
	cmd := &cobra.Command{
		Use:   "why NAME",
		Short: "Explain what happened, when, with which numbers, and what to do next",
		Long: `Explain where a Canary stands and how it came to that: each step of its release with the
verdict and its numbers, who did what, and what to do next. With --release: the story of
one of its releases, also of one that is long over; 'history NAME' lists them.`,
		Example: `  kubectl headgate why checkout
  kubectl headgate why checkout --release 7`,
		Args:              oneName,
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("release") && attempt < 1 {
				return usageError("--release %d: releases are numbered from 1; 'kubectl headgate history %s' lists them", attempt, args[0])
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			text, err := a.why(cmd.Context(), c, args[0], attempt)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.streams.Out, text)
			return err
		},
	}
	cmd.Flags().Int64Var(&attempt, "release", 0, "number of the release to tell of; default: where the Canary stands now")
	return cmd
}

// why tells of one attempt from its record alone, or for 0 where the Canary stands.
func (a *app) why(ctx context.Context, c *cluster, name string, attempt int64) (string, error) {
	if attempt > 0 {
		list, err := c.releases(ctx, name, attempt)
		if err != nil {
			return "", err
		}
		if len(list.Items) == 0 {
			return "", fmt.Errorf("there is no record of release %d of Canary %q in namespace %q; 'kubectl headgate history %s' lists those that are kept", attempt, name, c.namespace, name)
		}
		return view.Story(list.Items[0], a.now(), a.style()), nil
	}
	canary, err := c.get(ctx, name)
	if err != nil {
		return "", err
	}
	var record *v1beta1.Release
	if r := canary.Status.Release; r != nil {
		// The status alone explains it too, with less of what happened.
		if list, err := c.releases(ctx, name, r.Attempt); err == nil && len(list.Items) > 0 {
			record = &list.Items[0]
		}
	}
	return view.Why(*canary, record, a.now(), a.style()), nil
}
