// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/cmd/kubectl-headgate/view"
)

type waitOptions struct {
	timeout time.Duration
	settle  time.Duration
	people  bool
}

func (a *app) waitCommand() *cobra.Command {
	var o waitOptions
	cmd := &cobra.Command{
		Use:   "wait NAME",
		Short: "Wait until the release has ended; the exit code says how",
		Long: `Wait until the release has ended, printing what happens. The exit code says how it
ended: 0 the new version serves all traffic, 3 rolled back or aborted, 4 still in
progress at --timeout, 5 nothing goes on until a person acts.

Made for pipelines: apply the new version, then wait. Headgate sees a new version
within moments; --settle is how long a Canary at rest is watched before it is
believed that nothing is about to start.`,
		Example: `  kubectl apply -f checkout.yaml && kubectl headgate wait checkout --timeout 30m`,
		Args:    oneName, ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.timeout <= 0 {
				return usageError("--timeout %s: write a duration above 0, such as 30m", o.timeout)
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			return a.wait(cmd.Context(), c, args[0], o)
		},
	}
	cmd.Flags().DurationVar(&o.timeout, "timeout", time.Hour, "how long to wait")
	cmd.Flags().DurationVar(&o.settle, "settle", 2*time.Second, "how long a Canary at rest must stay so")
	cmd.Flags().BoolVar(&o.people, "through-approvals", false, "keep waiting while a person has to act, instead of ending with 5")
	return cmd
}

func (a *app) wait(ctx context.Context, c *cluster, name string, o waitOptions) error {
	limit, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	var lines progressLines
	var last *v1beta1.Canary
	for {
		canary, err := a.untilOutcome(limit, c, name, o, &lines)
		if canary != nil {
			last = canary
		}
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return a.timedOut(last, name, o)
		}
		if err != nil {
			return err
		}
		stays, err := c.stays(limit, name, canary, o.settle)
		if err != nil && limit.Err() == nil {
			return err
		}
		if stays {
			return codeOf(view.OutcomeOf(*canary))
		}
	}
}

// untilOutcome returns the Canary when it has come to an outcome.
func (a *app) untilOutcome(ctx context.Context, c *cluster, name string, o waitOptions, lines *progressLines) (last *v1beta1.Canary, err error) {
	err = c.follow(ctx, name, func(canary *v1beta1.Canary) (bool, error) {
		last = canary
		if err := lines.print(a.streams.Out, *canary); err != nil {
			return false, err
		}
		switch view.OutcomeOf(*canary) {
		case view.Succeeded, view.Rejected:
			return true, nil
		case view.NeedsPerson:
			return !o.people, nil
		}
		return false, nil
	})
	return last, err
}

// stays says whether the Canary is still as it was after a while, and no version
// is held that has yet to be released.
func (c *cluster) stays(ctx context.Context, name string, was *v1beta1.Canary, settle time.Duration) (bool, error) {
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-time.After(settle):
	}
	canary, err := c.get(ctx, name)
	if err != nil {
		return false, err
	}
	if view.OutcomeOf(*canary) != view.OutcomeOf(*was) || canary.Status.Phase != was.Status.Phase {
		return false, nil
	}
	if canary.Status.Phase != v1beta1.PhaseIdle {
		return true, nil
	}
	deployment, err := c.deployment(ctx, canary.Spec.Target.Name)
	if err != nil {
		return true, nil //nolint:nilerr // who may not read Deployments relies on settle
	}
	return !held(deployment), nil
}

// held is true while a new template waits in the Deployment for its release.
func held(d *appsv1.Deployment) bool {
	_, marked := d.Annotations[v1beta1.AnnotationHeld]
	return marked && d.Spec.Paused
}

func (a *app) timedOut(last *v1beta1.Canary, name string, o waitOptions) error {
	if last == nil {
		return fmt.Errorf("the API server did not answer within %s", o.timeout)
	}
	code := exitInProgress
	if view.OutcomeOf(*last) == view.NeedsPerson {
		code = exitPerson
	}
	return &exitCode{code, fmt.Sprintf("%s has not ended after %s: %s", name, o.timeout, view.Line(*last))}
}
