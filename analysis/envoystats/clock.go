// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoystats

import "time"

// clock tells when the intervals of a proxy's flushes began and ended by our own clock. A
// flush carries the proxy's time, whose clock may differ from ours, and arrives later
// than it was made, by any time when it had to wait for a connection. The smallest
// difference ever seen between arrival and the proxy's time is what the clocks differ by,
// and a little more: so an interval began no later than the clock says, but for that
// little, the shortest time that a message of this proxy takes.
type clock struct {
	last   int64 // the proxy's time of the last flush, 0 before the first
	offset time.Duration
	// begun is when the first interval began, zero when that is not known.
	begun time.Time
}

// drift is how much the difference of two clocks may grow from flush to flush.
const drift = time.Millisecond

// interval gives the interval of a flush; begin is zero when it is not known.
func (c *clock) interval(at int64, arrival time.Time) (begin, end time.Time) {
	sent := time.UnixMilli(at)
	offset := arrival.Sub(sent)
	switch {
	case c.last == 0:
		c.offset, begin = offset, c.begun
	case at < c.last: // the proxy's clock was put back
		c.offset = offset
	default:
		c.offset = min(offset, c.offset+drift)
		begin = time.UnixMilli(c.last).Add(c.offset)
	}
	c.last = at
	return begin, sent.Add(c.offset)
}
