// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rollout is the life of a release, as a pure function: [Decide] turns a
// Canary and what was seen of the cluster into the Canary's next status, the
// actions that make the cluster fit, and when to look again.
//
//	               target, Service, routes found
//	Initializing ─────────────────────────────────▶ Idle ◀──────────────────────┐
//	     ▲   ▲                                       │ a new template is held   │
//	     │   │ rolled natively (bypass)              ▼                          │
//	     │   └──────────────────────────────────  Starting                      │
//	     │                                           │ pods ready, route        │
//	     │                                           │ confirmed at weight 0    │
//	     │                                           ▼                          │
//	     │                     ┌── next step ──── Stepping ──┐                  │
//	     │                     └───────────────────▶ │  ◀────┘                  │
//	     │                                           │ the step with 100 passed │
//	     │                                           ▼                          │
//	     │                                       Promoting                      │
//	     │                 Scaling ▶ Service ▶ Routes ▶ HandOver ▶ Cleanup ─────┤
//	     │                                   ╎           └▶ Native ──▲          │
//	     │   Starting, Stepping and Promoting up to Routes:                     │
//	     │   fault, failed metric, abort, deadline, newer template, revert;     │
//	     │   a failed metric until the pods change hands in HandOver            │
//	     │                                           ▼                          │
//	     │                                      RollingBack ── newer template ─▶ Starting
//	     │                                           │ no proxy sends to the    │
//	     │                                           │ canary, routes restored  │
//	     │                                           ▼        template reverted │
//	     └───────── target gone, bypass ──────── RolledBack ────────────────────┘
//	                                                 │ new template, retry
//	                                                 └──────────────────▶ Starting
//
// A promotion, stage by stage (A is the old version, B the new one):
//
//	Scaling   B has the Deployment's replica count; routes give B everything.
//	Service   the stable Service selects B instead of A; no traffic goes there yet.
//	Routes    the routes are what the user wrote: everything through the stable
//	          Service, which is B.
//	HandOver  the Deployment becomes the controller of B's ReplicaSet, adopts it,
//	          finds it saturated and scales A to 0. No pod restarts.
//	Native    only if that did not happen in a minute: B goes back to the Canary and
//	          keeps serving, the Deployment is let go and rolls by itself.
//	Cleanup   unpaused; selector, canary Service and autoscalers are restored.
//
// # Invariants
//
// The property tests hold these against random users, faults and crashes:
//
//	I1  The same input gives the same decision, and the input is not modified.
//	I2  The canary's weight never exceeds its step's.
//	I3  After a failed verdict, a fault or an abort the weight is 0 until another
//	    revision, or the same on request, is released; a crash before the status
//	    was recorded does not change that.
//	I4  Each of those reaches the routes in the decision that sees it.
//	I5  A share above 0 is asked for only when the pods for it are available and
//	    the canary Service has their endpoints.
//	I6  A Service without ready endpoints gets no traffic from a decision.
//	I7  Up to HandOver the stable version keeps all its pods, selected by the stable
//	    Service or one decision away from it.
//	I8  Whatever was dropped or repeated, the release ends, and everything of the
//	    user's is as the user wrote it (label aside).
//	I9  At rest there is nothing to do and nothing to wait for.
//	I10 No status and no observation makes it panic.
//	I11 What is measured counts only while the proxies serve the status's weight.
//	I12 A failed verdict that is there before the pods change hands takes the traffic back.
//
// # When a Canary is deleted
//
// In the middle of a release the traffic goes back to stable first; from HandOver
// on, the release is finished instead, as the old pods are given up. Then routes,
// Service and autoscalers are what the user wrote, the canary's pods are removed,
// and the Deployment loses Headgate's label and annotation. The Deployment stays
// paused only if it holds a version that was not released: unpausing would roll
// out, unwatched, what was being tested. An event says that kubectl rollout
// resume does so, and how to go back (kubectl rollout undo refuses a paused Deployment).
//
// # Limits
//
// Only traffic through the routes is split. Clients inside the cluster that use
// the Service directly stay on stable until the stage Service. Another Service
// that selects the same pods selects canary pods too.
package rollout
