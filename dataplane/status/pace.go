// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Settling is how long a status that is about to change again may wait, so that many
// changes at once cost one write. A change that comes alone is written at once.
const Settling = time.Second

// Pace is what tells which statuses are about to change again.
type Pace struct {
	// Written is when the status of an object was last written. Times that are longer
	// ago than Settling may be missing.
	Written map[types.UID]time.Time
	// Unanswered is since when the proxies have the present generation of an object, for
	// those of which they have not yet said whether they accept it.
	Unanswered map[types.UID]time.Time
}

// Due parts what is written now from what waits, and gives the time until the first of
// those is due, 0 when none waits. They have to be looked at again then: by that time
// there may be a better update of the same object.
//
// An object waits for the proxies' answer, which is to be in its status. A Gateway or a
// ListenerSet in which nothing but counts changed waits, when it was written a moment
// ago, for more to be counted.
func (p Pace) Due(updates []Update, now time.Time) (due []Update, wait time.Duration) {
	for _, u := range updates {
		remains := remaining(p.Unanswered, u.New, now)
		if onlyCounts(u) {
			remains = max(remains, remaining(p.Written, u.New, now))
		}
		switch {
		case remains <= 0:
			due = append(due, u)
		case wait == 0 || remains < wait:
			wait = remains
		}
	}
	return due, wait
}

// remaining gives how much of Settling is left for an object; nothing where no time is known.
func remaining(since map[types.UID]time.Time, o client.Object, now time.Time) time.Duration {
	t, known := since[o.GetUID()]
	if !known {
		return 0
	}
	return t.Add(Settling).Sub(now)
}

// onlyCounts tells whether an update changes nothing but how many routes or ListenerSets
// are attached.
func onlyCounts(u Update) bool {
	switch before := u.Old.(type) {
	case *gwv1.Gateway:
		after, ok := u.New.(*gwv1.Gateway)
		return ok && equality.Semantic.DeepEqual(uncounted(before), uncounted(after))
	case *gwv1.ListenerSet:
		after, ok := u.New.(*gwv1.ListenerSet)
		return ok && equality.Semantic.DeepEqual(uncountedSet(before), uncountedSet(after))
	}
	return false
}

func uncounted(gw *gwv1.Gateway) *gwv1.GatewayStatus {
	status := gw.Status.DeepCopy()
	status.AttachedListenerSets = nil
	for i := range status.Listeners {
		status.Listeners[i].AttachedRoutes = 0
	}
	return status
}

func uncountedSet(set *gwv1.ListenerSet) *gwv1.ListenerSetStatus {
	status := set.Status.DeepCopy()
	for i := range status.Listeners {
		status.Listeners[i].AttachedRoutes = 0
	}
	return status
}
