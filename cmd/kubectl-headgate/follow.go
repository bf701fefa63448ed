// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"headgate.dev/headgate/api/v1beta1"
)

// follow calls see with the Canary as it is, and again on each change, until see
// says done, fails, or the context ends. A watch that breaks is begun anew.
func (c *cluster) follow(ctx context.Context, name string, see func(*v1beta1.Canary) (done bool, err error)) error {
	for {
		canary, err := c.get(ctx, name)
		if err != nil {
			return err
		}
		if done, err := see(canary); done || err != nil {
			return err
		}
		done, err := c.changes(ctx, name, canary.ResourceVersion, see)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (c *cluster) changes(ctx context.Context, name, from string, see func(*v1beta1.Canary) (bool, error)) (done bool, err error) {
	w, err := c.watch(ctx, name, false, from)
	if err != nil {
		return false, c.explain(err, name)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case event, open := <-w.ResultChan():
			if !open || event.Type == watch.Error || event.Type == watch.Deleted {
				return false, nil
			}
			canary, ok := event.Object.(*v1beta1.Canary)
			if !ok || event.Type == watch.Bookmark {
				continue
			}
			if done, err := see(canary); done || err != nil {
				return done, err
			}
		}
	}
}
