// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"context"
	"sync"

	"headgate.dev/headgate/e2e/env"
	"headgate.dev/headgate/e2e/shop"
)

var prepared struct {
	once sync.Once
	err  error
}

// prepare brings Headgate to the cluster, once for all scenarios.
func prepare(c *env.Cluster) error {
	prepared.once.Do(func() {
		prepared.err = shop.Ground(context.Background(), c)
	})
	return prepared.err
}
