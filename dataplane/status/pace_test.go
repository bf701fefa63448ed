// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// countedGateway is a Gateway with routes and sets attached, and one condition.
func countedGateway(routes, sets int32, programmed metav1.ConditionStatus) *gwv1.Gateway {
	return &gwv1.Gateway{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "web"}, Status: gwv1.GatewayStatus{
		AttachedListenerSets: &sets,
		Conditions:           []metav1.Condition{{Type: "Programmed", Status: programmed}},
		Listeners:            []gwv1.ListenerStatus{{Name: "a", AttachedRoutes: 3}, {Name: "b", AttachedRoutes: routes}},
	}}
}

func countedSet(routes int32, programmed metav1.ConditionStatus) *gwv1.ListenerSet {
	return &gwv1.ListenerSet{ObjectMeta: metav1.ObjectMeta{Name: "set", UID: "set"}, Status: gwv1.ListenerSetStatus{
		Listeners: []gwv1.ListenerEntryStatus{{Name: "a", AttachedRoutes: routes, Conditions: []metav1.Condition{{Type: "Programmed", Status: programmed}}}},
	}}
}

func TestStatusesThatAreAboutToChangeWait(t *testing.T) {
	yes, no := metav1.ConditionTrue, metav1.ConditionFalse
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	counts := Update{Old: countedGateway(1, 0, yes), New: countedGateway(2, 0, yes)}
	setCounts := Update{Old: countedSet(1, yes), New: countedSet(2, yes)}
	route := Update{
		Old: &gwv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "shop"}},
		New: &gwv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "shop"}},
	}
	for _, c := range []struct {
		name    string
		pace    Pace
		updates []Update
		due     []string
		wait    time.Duration
	}{
		{name: "nothing is due when nothing changed"},
		{
			name:    "the first route that attaches is counted at once",
			updates: []Update{counts}, due: []string{"web"},
		},
		{
			name:    "the next one waits for the rest of the time",
			pace:    Pace{Written: map[types.UID]time.Time{"web": ago(300 * time.Millisecond)}},
			updates: []Update{counts}, wait: Settling - 300*time.Millisecond,
		},
		{
			name:    "what has waited for all of the time is written",
			pace:    Pace{Written: map[types.UID]time.Time{"web": ago(Settling)}},
			updates: []Update{counts}, due: []string{"web"},
		},
		{
			name:    "ListenerSets are counted like routes",
			pace:    Pace{Written: map[types.UID]time.Time{"web": now.Time}},
			updates: []Update{{Old: countedGateway(1, 0, yes), New: countedGateway(1, 1, yes)}}, wait: Settling,
		},
		{
			name:    "the routes of a ListenerSet are counted like those of a Gateway",
			pace:    Pace{Written: map[types.UID]time.Time{"set": now.Time}},
			updates: []Update{setCounts}, wait: Settling,
		},
		{
			name:    "a condition of a Gateway does not wait, whatever is counted with it",
			pace:    Pace{Written: map[types.UID]time.Time{"web": now.Time}},
			updates: []Update{{Old: countedGateway(1, 0, no), New: countedGateway(2, 0, yes)}}, due: []string{"web"},
		},
		{
			name:    "a condition of a listener in a set does not wait either",
			pace:    Pace{Written: map[types.UID]time.Time{"set": now.Time}},
			updates: []Update{{Old: countedSet(1, no), New: countedSet(2, yes)}}, due: []string{"set"},
		},
		{
			name:    "a route that was written a moment ago is written again",
			pace:    Pace{Written: map[types.UID]time.Time{"shop": now.Time}},
			updates: []Update{route}, due: []string{"shop"},
		},
		{
			name:    "a route waits for the proxies' answer",
			pace:    Pace{Unanswered: map[types.UID]time.Time{"shop": ago(100 * time.Millisecond)}},
			updates: []Update{route}, wait: Settling - 100*time.Millisecond,
		},
		{
			name:    "proxies that do not answer are not waited for any longer",
			pace:    Pace{Unanswered: map[types.UID]time.Time{"shop": ago(2 * Settling)}},
			updates: []Update{route}, due: []string{"shop"},
		},
		{
			name: "what waits does not keep the others, and the first of it is looked at in time",
			pace: Pace{
				Written:    map[types.UID]time.Time{"web": ago(300 * time.Millisecond), "set": ago(700 * time.Millisecond)},
				Unanswered: map[types.UID]time.Time{"other": now.Time},
			},
			updates: []Update{counts, setCounts, route}, due: []string{"shop"}, wait: Settling - 700*time.Millisecond,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			due, wait := c.pace.Due(c.updates, now.Time)
			var names []string
			for _, u := range due {
				names = append(names, u.New.GetName())
			}
			if diff := cmp.Diff(c.due, names); diff != "" {
				t.Error("due:", diff)
			}
			if wait != c.wait {
				t.Errorf("the next look is in %s, want %s", wait, c.wait)
			}
		})
	}
}
