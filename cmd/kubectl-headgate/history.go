// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/cmd/kubectl-headgate/view"
)

func (a *app) historyCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "history NAME",
		Short: "List the releases of a Canary, the newest first",
		Long: `List the records of a Canary's releases: version, how each ended, when it started, how long
it took until that was decided, and why. 'why NAME --release N' tells one in full. As many are
kept as spec.releaseHistoryLimit says.`,
		Example: `  kubectl headgate history checkout
  kubectl headgate why checkout --release 7`,
		Args:              oneName,
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"", "json", "yaml"}, output) {
				return usageError("-o %s: write json or yaml", output)
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			list, err := c.releases(cmd.Context(), args[0], 0)
			if err != nil {
				return err
			}
			if output != "" {
				return a.print(list, output)
			}
			if len(list.Items) == 0 {
				return a.noHistory(cmd.Context(), c, args[0])
			}
			_, err = fmt.Fprint(a.streams.Out, view.History(list.Items, a.now(), a.style()))
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// noHistory says whether it is the Canary that is missing, or its releases.
func (a *app) noHistory(ctx context.Context, c *cluster, name string) error {
	if _, err := c.get(ctx, name); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.streams.ErrOut, "There is no record of a release of Canary %q in namespace %q.\n", name, c.namespace)
	return err
}

// releases are the records of a Canary's releases, or of one attempt of it; 0 is all.
func (c *cluster) releases(ctx context.Context, canary string, attempt int64) (*v1beta1.ReleaseList, error) {
	set := labels.Set{v1beta1.LabelHold: canary}
	if attempt > 0 {
		set[v1beta1.LabelAttempt] = strconv.FormatInt(attempt, 10)
	}
	list := &v1beta1.ReleaseList{}
	err := c.canaries.Get().Namespace(c.namespace).Resource("releases").
		VersionedParams(&metav1.ListOptions{LabelSelector: labels.SelectorFromValidatedSet(set).String()}, metav1.ParameterCodec).Do(ctx).Into(list)
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("this cluster does not know Releases (%s): install or upgrade Headgate's chart first", v1beta1.GroupVersion)
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("not allowed: %w; the cluster's roles edit and view include Releases", err)
	}
	return list, err
}
