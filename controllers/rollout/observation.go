// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"time"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// Input is everything a decision depends on.
type Input struct {
	// Canary is the resource with its spec, annotations and last recorded status.
	Canary *v1beta1.Canary
	// Seen is the world as it was read for this pass.
	Seen Observation
	// Now is the time of this pass.
	Now time.Time
}

// Observation is the part of the cluster a release depends on, in the words of
// a release. Lists are sorted by name unless said otherwise.
type Observation struct {
	// Problem is set when the world could not be read (no permission, a missing
	// API); the rest is then empty and nothing is decided but saying so.
	Problem *Problem
	// Failure is what the API server said to the last write of this Canary's
	// actions, if it refused one; empty otherwise.
	Failure string
	// Target is the Deployment; nil when it does not exist.
	Target *Target
	// ReplicaSets are those of the target and of the Canary, oldest first: the
	// Deployment controller takes the oldest of equal ones as the current one.
	ReplicaSets []ReplicaSet
	// Service is the stable Service; nil when ServiceProblem says why not.
	Service        *Service
	ServiceProblem *Problem
	// CanaryService is the Service of the canary's pods.
	CanaryService CanaryService
	// Routes are those that name the Service.
	Routes []Route
	// RouteProblem is set when a route is missing or cannot be used.
	RouteProblem *Problem
	// Scalers are the HorizontalPodAutoscalers of the target.
	Scalers []Scaler
	// Verdict is the analysis of the confirmed weight. The zero value is Unknown.
	Verdict analysis.Verdict
}

// Problem is why something cannot be used: a reason of package v1beta1 and a
// sentence that says what to do.
type Problem struct{ Reason, Message string }

// Target is the Deployment whose versions are released.
type Target struct {
	// Template is a digest of spec.template.
	Template string
	// Replicas is spec.replicas.
	Replicas int32
	// Paused is spec.paused; Held is true when the admission policy paused it.
	Paused, Held bool
	// Label is the value of v1beta1.LabelHold; empty without it.
	Label string
	// Bypass is true with the annotation v1beta1.AnnotationBypass.
	Bypass bool
}

// Owner says who controls a ReplicaSet.
type Owner string

// The controllers of ReplicaSets.
const (
	OwnerTarget Owner = "Target"
	OwnerCanary Owner = "Canary"
)

// ReplicaSet is one version's pods.
type ReplicaSet struct {
	Name string
	// Hash is the value of its pod-template-hash label.
	Hash string
	// Template is the digest of its template without that label.
	Template string
	Owner    Owner
	// Replicas is how many pods are asked for, Pods how many there are (without
	// those that terminate), Ready and Available how many can serve.
	Replicas, Pods, Ready, Available int32
	// Trouble says what keeps a pod from running, when it will not go away by
	// waiting: a crash loop, an image that cannot be pulled.
	Trouble string
	// Waiting says what a pod waits for that may come by itself: a node with
	// room, a quota.
	Waiting string
}

// Service is the stable Service.
type Service struct {
	Name string
	// Hash is the pod-template-hash its selector asks for; empty as the user wrote it.
	Hash string
	// Traces is true while anything of Headgate's is on the object.
	Traces bool
	// Ready is how many ready endpoints it has by the Hash of their ReplicaSet.
	Ready map[string]int32
}

// Presence says whether a Service named like the canary's exists and whose it is.
type Presence string

// The presences of the canary's Service.
const (
	Absent  Presence = ""
	Ours    Presence = "Ours"
	Foreign Presence = "Foreign"
)

// CanaryService is the Service of the canary's pods.
type CanaryService struct {
	Name     string
	Presence Presence
	// Hash is the pod-template-hash it selects.
	Hash string
	// InSync is true when ports and the like are those of the stable Service.
	InSync bool
	// Ready is how many ready endpoints it has.
	Ready int32
}

// Detached is the Percent of a route that does not carry the canary in every
// rule that names the Service, or carries it at uneven weights.
const Detached int32 = -1

// Route is a route that names the Service.
type Route struct {
	Ref v1beta1.RouteReference
	// Percent is the canary's share in every rule that names the Service, or Detached.
	Percent int32
	// Reaches is true while any rule sends requests to the canary, at whatever share.
	Reaches bool
	// Traces is true while anything of Headgate's is on the object.
	Traces bool
	// Programmed is true when every gateway that reports its proxies says that
	// they serve this generation, and every other one accepted it.
	Programmed bool
	// Foreign is true when a gateway serves it that does not report its proxies.
	Foreign bool
	// Message says what is waited for while Programmed is false.
	Message string
	// Closed is the mark a closing release left, see Closing.
	Closed *Closing
}

// Scaler is a HorizontalPodAutoscaler of the target.
type Scaler struct {
	Name string
	// Held is true when scaling down is off for the release.
	Held bool
	// Traces is true while anything of Headgate's is on the object.
	Traces bool
}

// serving gives the ReplicaSet that serves at rest: the only one of the
// target with pods asked for; with none, the one that fits the template; nil
// while a native rollout has two.
func (s Observation) serving() *ReplicaSet {
	var active, fitting *ReplicaSet
	for i := range s.ReplicaSets {
		rs := &s.ReplicaSets[i]
		if rs.Owner != OwnerTarget {
			continue
		}
		if rs.Replicas > 0 {
			if active != nil {
				return nil
			}
			active = rs
		}
		if fitting == nil && s.Target != nil && rs.Template == s.Target.Template {
			fitting = rs
		}
	}
	if active != nil {
		return active
	}
	return fitting
}

// find gives the ReplicaSet with a hash, or nil.
func (s Observation) find(hash string) *ReplicaSet {
	for i := range s.ReplicaSets {
		if s.ReplicaSets[i].Hash == hash {
			return &s.ReplicaSets[i]
		}
	}
	return nil
}

// canaries gives the ReplicaSets the Canary controls.
func (s Observation) canaries() []ReplicaSet {
	var out []ReplicaSet
	for _, rs := range s.ReplicaSets {
		if rs.Owner == OwnerCanary {
			out = append(out, rs)
		}
	}
	return out
}

// carried is true when every route carries the canary at this share.
func (s Observation) carried(percent int32) bool {
	for _, r := range s.Routes {
		if r.Percent != percent {
			return false
		}
	}
	return len(s.Routes) > 0
}

// routeTraces is true while anything of Headgate's is on a route.
func (s Observation) routeTraces() bool {
	for _, r := range s.Routes {
		if r.Traces {
			return true
		}
	}
	return false
}

// traces is true while anything of a release is left.
func (s Observation) traces() bool {
	for _, h := range s.Scalers {
		if h.Traces {
			return true
		}
	}
	return s.routeTraces() || len(s.canaries()) > 0 || s.CanaryService.Presence == Ours || s.Service != nil && s.Service.Traces
}

// exposed is true while a route sends traffic to the canary.
func (s Observation) exposed() bool {
	for _, r := range s.Routes {
		if r.Reaches {
			return true
		}
	}
	return false
}

// busy is the problem that ends by itself: another Canary's release in the same rule.
func (s Observation) busy() *Problem {
	if s.RouteProblem != nil && s.RouteProblem.Reason == v1beta1.ReasonRouteBusy {
		return s.RouteProblem
	}
	return nil
}

// programmed says whether every route is served as it is, and else why not.
func (s Observation) programmed() (ok, foreign bool, why string) {
	ok = true
	for _, r := range s.Routes {
		foreign = foreign || r.Foreign
		if ok && !r.Programmed {
			ok, why = false, r.Ref.Kind+" "+r.Ref.Name+": "+r.Message
		}
	}
	return ok, foreign, why
}
