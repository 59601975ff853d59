package kv

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store/version"
)

// A value's expiry is fixed when it is minted, by its stamp, and is part of the
// record: every home has the same. What a reader gets depends on it and on a stamp alone: the
// one by which R homes were asked. They know it by then, so that whoever asks R
// homes later, anywhere, hears of a stamp that is no earlier: what one read at
// quorum saw expired stays expired for all that come after it. The value goes the
// way of tombstones afterwards.

// readTime is the time by which values are readable or expired, in milliseconds
// since 1970. It follows the stamps, as far as they agree with the members' time: a
// wall clock that jumps an hour ahead must not end all values that have less than
// an hour left, and one that is an hour behind must not show again what is gone.
func (c *Coordinator) readTime() uint64 {
	return c.readTimeOf(c.stamps().Now())
}

// readTimeOf is readTime for a stamp that the clock gave just now.
func (c *Coordinator) readTimeOf(s version.Stamp) uint64 {
	ms := s.Time().UnixMilli()
	if agreed, ok := c.skew.agreed.now(); ok {
		bound := c.cfg.SkewMax.Milliseconds()
		ms = min(max(ms, agreed-bound), agreed+bound)
	}
	return uint64(max(ms, 0))
}

// expiring says that a value of the record expires between the stamp by which the
// homes were asked and one that they have answered with. Another reader may have
// seen it expired: it must be read again, by a later stamp.
func (o *getOp) expiring(record *version.Record) bool {
	for i := range record.Siblings {
		if e := record.Siblings[i].Expiry; e != 0 {
			o.mu.Lock()
			from, to := version.Stamp(o.req[0].Stamp), o.latest
			o.mu.Unlock()
			if from < to && o.c.readTimeOf(from) < e && e <= o.c.readTimeOf(to) {
				return true
			}
		}
	}
	return false
}

// agreed is the members' time as last measured, carried on by this process's
// monotonic clock. The zero value knows none.
type agreed struct{ at atomic.Pointer[agreement] }

// agreement is the cluster's wall-clock time at one time of this process.
type agreement struct {
	ms int64
	at time.Time
}

// set takes a measurement: the wall-clock time at a time of this process.
func (a *agreed) set(wall, at time.Time) { a.at.Store(&agreement{wall.UnixMilli(), at}) }

// now is the members' time in milliseconds since 1970; false while they have told
// none for a while. Clocks within the bound show no other time than that, by more
// than the bound.
func (a *agreed) now() (int64, bool) {
	g := a.at.Load()
	if g == nil {
		return 0, false
	}
	since := time.Since(g.at)
	return g.ms + since.Milliseconds(), since <= skewKept
}

// expiryOf is when a put's value stops to be readable, if it is minted with the
// stamp.
func (c *Coordinator) expiryOf(req *api.PutRequest, s version.Stamp) uint64 {
	if req.TTL > 0 {
		return c.readTimeOf(s) + req.TTL
	}
	return req.Expiry
}

// checkLife refuses lives that no value can have.
func (c *Coordinator) checkLife(req *api.PutRequest) error {
	switch {
	case req.TTL == 0 && req.Expiry == 0:
		return nil
	case req.Delete:
		return fmt.Errorf("%w: a delete has no expiry", api.ErrBadRequest)
	case req.TTL > 0 && req.Expiry > 0:
		return fmt.Errorf("%w: both a TTL and an expiry", api.ErrBadRequest)
	case req.TTL > api.TTLMax:
		return fmt.Errorf("%w: a TTL of %d ms: up to %d, which is 100 years", api.ErrBadRequest, req.TTL, uint64(api.TTLMax))
	}
	if most := c.readTime() + api.TTLMax; req.Expiry > most {
		return fmt.Errorf("%w: an expiry at %d ms: up to %d, 100 years from now", api.ErrBadRequest, req.Expiry, most)
	}
	return nil
}
