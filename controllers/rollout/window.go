// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"time"

	"github.com/robfig/cron/v3"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// windowOpen says whether a release may take a step now, and if not, when the
// next window opens (the zero time if none ever does). Windows that cannot be read
// are never open; invalidSpec tells the user.
func windowOpen(windows []v1beta1.Window, now time.Time) (open bool, next time.Time) {
	if len(windows) == 0 {
		return true, time.Time{}
	}
	for _, w := range windows {
		schedule, err := scheduleOf(w)
		if err != nil {
			continue
		}
		// Next is strictly after its argument: a window that opened exactly one
		// duration ago has just closed.
		if opened := schedule.Next(now.Add(-w.Duration.Duration)); !opened.IsZero() && !opened.After(now) {
			return true, time.Time{}
		}
		if opens := schedule.Next(now); !opens.IsZero() && (next.IsZero() || opens.Before(next)) {
			next = opens
		}
	}
	return false, next
}

// scheduleOf reads the schedule in its time zone.
func scheduleOf(w v1beta1.Window) (cron.Schedule, error) {
	zone := w.TimeZone
	if zone == "" {
		zone = "UTC"
	}
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		return nil, fmt.Errorf("there is no time zone %q: write an IANA name such as Europe/Berlin", w.TimeZone)
	}
	schedule, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(w.Schedule)
	if err != nil {
		return nil, fmt.Errorf("schedule %q cannot be read (%w): write five fields, minute hour day month weekday: 0 9 * * 1-4 is nine o'clock on Monday to Thursday", w.Schedule, err)
	}
	if s, ok := schedule.(*cron.SpecSchedule); ok {
		s.Location = location
	}
	return schedule, nil
}

// invalidSpec is what the API server could not check.
func (p *pass) invalidSpec() *Problem {
	for i, w := range p.in.Canary.Spec.Windows {
		if _, err := scheduleOf(w); err != nil {
			return &Problem{v1beta1.ReasonInvalidSpec, fmt.Sprintf("spec.windows[%d]: %v.", i, err)}
		}
		if w.Duration.Duration < time.Minute {
			return &Problem{v1beta1.ReasonInvalidSpec, fmt.Sprintf("spec.windows[%d]: a window is open for at least 1m, not %s.", i, w.Duration.Duration)}
		}
	}
	if err := analysis.Validate(p.in.Canary.Spec.Analysis); err != nil {
		return &Problem{v1beta1.ReasonInvalidSpec, sentence(err.Error())}
	}
	return nil
}

// closed says whether no release window is open, and waits for the next one. What
// a person promoted goes on.
func (p *pass) closed() bool {
	if r := p.release; p.open() && r != nil && (r.Expedited || r.Approved) {
		return false
	}
	open, next := windowOpen(p.in.Canary.Spec.Windows, p.now)
	if open {
		return false
	}
	where, when := "A new version is held", "no window will open: correct spec.windows"
	if p.open() {
		where = fmt.Sprintf("Staying at %d %%", p.status.Weight)
	}
	if !next.IsZero() {
		when = "the next one opens at " + next.UTC().Format("2006-01-02 15:04 MST")
		p.until(next)
	}
	p.working(v1beta1.ReasonOutsideWindow, fmt.Sprintf("%s outside of the release windows; %s.", where, when))
	return true
}
