// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/cmd/kubectl-headgate/view"
)

// order is a command to the operator.
type order struct {
	verb    string
	reason  string
	noWait  bool
	timeout time.Duration
}

func (o order) annotation() string {
	if o.reason == "" {
		return o.verb
	}
	return o.verb + ": " + o.reason
}

// steeringCommands are the commands that change what a release does.
func (a *app) steeringCommands() []*cobra.Command {
	promote := a.steeringCommand(v1beta1.CommandPromote, "Approve the current step, or end its hold early",
		`Approve the current step. Where no approval is asked for, or it is given already, end
the step's hold and stop waiting for a verdict. With --full: skip the remaining steps
and go to 100 %. A metric that fails still rolls back.`)
	promote.Flags().Bool("full", false, "skip the remaining steps and go to 100 %")
	return []*cobra.Command{
		promote,
		a.steeringCommand(v1beta1.CommandAbort, "Take all traffic back to the stable version",
			"Take all traffic back to the stable version, now. The rejected version stays in the\nDeployment, paused; a newer one starts the next release."),
		a.steeringCommand(v1beta1.CommandRetry, "Release the rejected version again, from the first step", ""),
		a.steeringCommand(v1beta1.CommandPause, "Stop the release at its present weight",
			"Stop the release at its present weight. A metric that fails, or pods that are not\nready, still roll back."),
		a.steeringCommand(v1beta1.CommandResume, "Continue a paused release", ""),
	}
}

func (a *app) steeringCommand(verb, short, long string) *cobra.Command {
	o := order{verb: verb}
	cmd := &cobra.Command{
		Use:               verb + " NAME",
		Short:             short,
		Long:              long,
		Args:              oneName,
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.ContainsAny(o.reason, "\n\r") {
				return usageError("--reason: write it on one line")
			}
			if full := cmd.Flags().Lookup("full"); full != nil && full.Value.String() == "true" {
				o.verb = v1beta1.CommandPromoteFull
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			return a.steer(cmd.Context(), c, args[0], o)
		},
	}
	if long == "" {
		cmd.Long = short + "."
	}
	cmd.Long += fmt.Sprintf("\n\nThe same without this plugin:\n  kubectl annotate canary NAME %s='%s: REASON'", v1beta1.AnnotationCommand, verb)
	cmd.Flags().StringVar(&o.reason, "reason", "", "why; kept in the release's journal")
	cmd.Flags().BoolVar(&o.noWait, "no-wait", false, "do not wait until the command was carried out")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 10*time.Second, "how long to wait until the command was carried out")
	return cmd
}

// steer asks for the order and says what came of it.
func (a *app) steer(ctx context.Context, c *cluster, name string, o order) error {
	// Refusals are told by events; those of earlier commands are known already.
	known := c.refusals(ctx, name)
	before, err := a.ask(ctx, c, name, o)
	if err != nil {
		return err
	}
	if o.noWait {
		_, err := fmt.Fprintf(a.streams.Out, "%s/%s: asked to %s.\n", c.namespace, name, o.verb)
		return err
	}
	wait, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	var after *v1beta1.Canary
	err = c.follow(wait, name, func(canary *v1beta1.Canary) (bool, error) {
		after = canary
		return canary.Annotations[v1beta1.AnnotationCommand] != o.annotation(), nil
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("the command stands in the annotation %s, but nobody has carried it out within %s: is Headgate running?",
			v1beta1.AnnotationCommand, o.timeout)
	}
	if err != nil {
		return err
	}
	return a.report(ctx, c, before, after, known, o)
}

// ask writes the command, unless it makes no sense now or another one is waiting.
func (a *app) ask(ctx context.Context, c *cluster, name string, o order) (*v1beta1.Canary, error) {
	set := map[string]any{v1beta1.AnnotationCommand: o.annotation(), v1beta1.AnnotationCommandBy: nil}
	if who := c.whoami(ctx); who != "" {
		set[v1beta1.AnnotationCommandBy] = who
	}
	// The status changes often; a conflict only means that it has to be read again.
	for range 5 {
		canary, err := c.get(ctx, name)
		if err != nil {
			return nil, err
		}
		if why := view.Refuse(*canary, o.verb); why != "" {
			return nil, fmt.Errorf("%s/%s: %s", c.namespace, name, why)
		}
		if other := canary.Annotations[v1beta1.AnnotationCommand]; other != "" && other != o.annotation() && o.verb != v1beta1.CommandAbort {
			return nil, fmt.Errorf("%s/%s: another command (%s) is still being carried out; try again", c.namespace, name, other)
		}
		_, err = c.annotate(ctx, canary, set)
		if !apierrors.IsConflict(err) {
			return canary, err
		}
	}
	return nil, fmt.Errorf("%s/%s: changed by somebody else again and again; try again", c.namespace, name)
}

// report prints what was journaled since, or fails with the refusal.
func (a *app) report(ctx context.Context, c *cluster, before, after *v1beta1.Canary, known map[types.UID]refusal, o order) error {
	said := newEntries(before.Status.Release, after.Status.Release)
	if len(said) == 0 {
		if why := c.newRefusal(ctx, after.Name, known); why != "" {
			return fmt.Errorf("%s/%s: refused: %s", after.Namespace, after.Name, why)
		}
		_, err := fmt.Fprintf(a.streams.Out, "%s/%s: %s was taken up. %s\n", after.Namespace, after.Name, o.verb, view.Line(*after))
		return err
	}
	for _, entry := range said {
		if _, err := fmt.Fprintf(a.streams.Out, "%s/%s: %s\n", after.Namespace, after.Name, entry.Message); err != nil {
			return err
		}
	}
	return nil
}

// newEntries are the entries of after's journal that before's does not end with.
func newEntries(before, after *v1beta1.ReleaseProgress) []v1beta1.JournalEntry {
	if after == nil {
		return nil
	}
	if before == nil || before.Attempt != after.Attempt || len(before.Journal) == 0 {
		return after.Journal
	}
	last := before.Journal[len(before.Journal)-1]
	for i := len(after.Journal) - 1; i >= 0; i-- {
		if e := after.Journal[i]; e.Reason == last.Reason && e.Message == last.Message && e.Time.Equal(&last.Time) {
			return after.Journal[i+1:]
		}
	}
	return after.Journal
}

// newRefusal is the sentence of a refusal that was not known before. It is empty
// when there is none.
func (c *cluster) newRefusal(ctx context.Context, name string, known map[types.UID]refusal) string {
	// Events are written a moment after the change they speak of.
	for range 5 {
		for uid, r := range c.refusals(ctx, name) {
			if known[uid].version != r.version {
				return r.note
			}
		}
		select {
		case <-ctx.Done():
			return ""
		case <-time.After(200 * time.Millisecond):
		}
	}
	return ""
}
