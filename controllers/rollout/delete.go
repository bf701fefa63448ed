// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"headgate.dev/headgate/api/v1beta1"
)

// delete restores the user's objects and lets the Canary go. What has been
// handed over is finished forwards, everything else goes back to stable. See
// the package comment for what the user is left with.
func (p *pass) delete() {
	if p.status.Phase == v1beta1.PhasePromoting && handedOver(p.release.Promotion) {
		p.promote()
		if p.status.Phase == v1beta1.PhasePromoting {
			return
		}
	}
	if p.open() {
		if p.close(v1beta1.OutcomeAborted, v1beta1.ReasonDetached, "The Canary is deleted during the release."); p.urgent {
			return
		}
	}
	if !p.sweep() {
		return
	}
	target := p.seen.Target
	if target != nil && target.Label == p.in.Canary.Name {
		serving := p.seen.serving()
		if target.Paused && target.Held {
			if serving != nil && serving.Template == target.Template {
				p.do(EnsureUnpaused{})
				return
			}
			p.event(true, v1beta1.ReasonDetached, "The Deployment stays paused with a version that was not released: kubectl rollout resume rolls it out natively; to go back, apply the version that serves before you resume.")
		}
		p.do(EnsureHoldLabelRemoved{})
	}
	p.do(EnsureFinalizerRemoved{})
}

// sweep takes away whatever a release left, from any state, in the order that
// keeps every request on a version that is meant to have it. It says when there
// is nothing left.
func (p *pass) sweep() bool {
	if !p.seen.traces() {
		return true
	}
	p.working(v1beta1.ReasonRollingBack, "What is left of a release is removed.")
	p.narrowToServing()
	if !p.emptied() || !p.detached() {
		return false
	}
	return p.removed("")
}

// narrowToServing keeps a narrowed Service on the version the Deployment runs.
func (p *pass) narrowToServing() {
	s, serving := p.seen.Service, p.seen.serving()
	if s == nil || s.Hash == "" {
		return
	}
	switch {
	case serving == nil:
		p.do(EnsureServiceRestored{})
	case s.Hash != serving.Hash:
		p.do(EnsureServiceNarrowed{Hash: serving.Hash})
	}
}
