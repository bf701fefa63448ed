// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"context"
	"testing"
	"testing/synctest"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// What the measurer has to say is heard as long as the manager runs, and nobody waits for it after that:
// the bubble does not end before its last goroutine has.
func TestAnswersEndWithTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
		defer queue.ShutDown()
		from := make(chan types.NamespacedName)
		if err := answers(from)(ctx, queue); err != nil {
			t.Fatal(err)
		}
		news := types.NamespacedName{Namespace: "shop", Name: "checkout"}
		from <- news
		if got, _ := queue.Get(); got.NamespacedName != news {
			t.Errorf("the queue has %v", got)
		}
		cancel()
		synctest.Wait()
		select {
		case from <- news:
			t.Error("it is heard after the manager ended")
		default:
		}
	})
}
