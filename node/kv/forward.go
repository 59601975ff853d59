package kv

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store/version"
)

// A put that this node cannot mint goes to one home, unminted. It goes to a
// second home only after a refusal, or if its bytes never left: two homes that
// mint the same put make two siblings of it. A forwarded put is never forwarded
// again.

// elsewhere sends a put that this home cannot mint to another one.
func (o *putOp) elsewhere(self int, why error) {
	if o.req.Forwarded {
		o.answer(why)
		return
	}
	o.mu.Lock()
	if self >= 0 {
		o.tried[self] = true
		o.errs[self] = why
	}
	o.mu.Unlock()
	o.forward(why)
}

// forward sends the put to the nearest home that was not tried. last is why the
// one before refused it.
func (o *putOp) forward(last error) {
	o.mu.Lock()
	next := o.nearest()
	if next >= 0 {
		o.tried[next] = true
	}
	homes, attempt := o.homes, o.attempt
	o.mu.Unlock()
	if next < 0 {
		o.answer(o.nowhere(last))
		return
	}
	to, ok := o.c.peer(homes[next])
	leg := &forwardLeg{putLeg{op: o, attempt: attempt, home: next}}
	o.hold()
	if !ok {
		leg.Complete(nil, rpc.ErrUnreachable)
		return
	}
	req := o.req
	req.Forwarded = true
	req.Zone = o.zone // that of the home may be another one
	if o.chosen {     // by this node's clock, which may be wrong; homes go by theirs
		if ahead, ok := o.c.skew.ahead(); ok || ahead < -o.c.cfg.SkewMax {
			req.NotAfter = uint64(o.notAfter.Add(-ahead).UnixMilli())
		}
	}
	req.Stamp = uint64(o.c.stamps().Now())
	api.Put.Send(o.c.cfg.Transport, to, &req, o.theirs, leg)
}

// A home is near if it answers in at most nearTimes the time of the quickest one, and
// nearMin.
const (
	nearTimes = 4
	nearMin   = 2 * time.Millisecond
)

// nearest is the first home, by slot, that is near, was not tried and can be reached;
// -1 if there is none. So homes that are about as quick have equal shares. While there
// is one in the zone whose homes count for the put, or else in this node's own, it is
// one of that zone; o.mu is held.
func (o *putOp) nearest() int {
	least := time.Duration(math.MaxInt64 / nearTimes / 2)
	var means [ring.ReplicasMax]time.Duration
	var usable, inZone [ring.ReplicasMax]bool
	zone, ok := o.zone, o.req.W == api.LocalQuorum
	if !ok {
		zone, ok = o.c.nearZone(o.ring)
	}
	any := false
	for i, id := range o.homes[:o.slots] {
		if o.tried[i] {
			continue
		}
		if id == o.c.cfg.Self || !o.c.Reachable(id) {
			o.errs[i] = rpc.ErrUnreachable
			continue
		}
		usable[i] = true
		means[i], _ = o.c.cfg.Circuits.Latency(id) // 0 for one that was never asked
		inZone[i] = ok && o.ring.Member(id).Zone == zone
		any = any || inZone[i]
	}
	for i := range o.slots {
		usable[i] = usable[i] && (inZone[i] || !any)
		if usable[i] {
			least = min(least, means[i])
		}
	}
	for i := range o.slots {
		if usable[i] && means[i] <= nearTimes*least+nearMin {
			return i
		}
	}
	return -1
}

// nowhere says that no home takes the put; nothing was written.
func (o *putOp) nowhere(last error) error {
	switch {
	case last == nil || rpc.NotSent(last): // never asked: the list of homes says why
	case errors.Is(last, api.ErrUnavailable):
		return last
	case elsewhere(last):
		return fmt.Errorf("no home takes the write: %w", last)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Errorf("%w: nothing was written: %w", api.ErrUnavailable,
		o.c.unmet("put", &o.seats, &o.none, func(i int) string {
			if i >= o.slots {
				return "mints nothing, while a slot moves"
			}
			return reason(o.errs[i])
		}))
}

// forwardLeg is a put on its way to the home that shall mint it.
type forwardLeg struct{ putLeg }

// Complete implements rpc.Completer.
func (l *forwardLeg) Complete(reply []byte, err error) {
	defer l.op.drop()
	o := l.op
	var resp api.PutResponse
	if err == nil {
		err = api.Put.Decode(reply, &resp)
		if err != nil { // it was answered, but we can't tell what
			o.answer(fmt.Errorf("%w: %w", api.ErrUnknown, err))
			return
		}
		o.relay(&resp)
		return
	}
	home := o.homes[l.home]
	o.mu.Lock()
	o.errs[l.home] = err
	o.mu.Unlock()
	switch {
	case rerouted(err):
		o.slow(func() { o.rerouteForward(home) })
	case rpc.NotSent(err) || elsewhere(err):
		o.forward(err)
	case refused(err) || errors.Is(err, api.ErrUnknown):
		o.answer(err)
	default:
		o.answer(fmt.Errorf("%w: forwarded to %s: %w", api.ErrUnknown, home.Short(), err))
	}
}

// rerouteForward begins anew with the ring record that a home knew. If it knew
// none that is newer, it does not know yet that it is a home: others may.
func (o *putOp) rerouteForward(home ring.NodeID) {
	if _, err := o.c.newer(home, o.ring.Epoch, o.own); err != nil {
		o.forward(fmt.Errorf("%w: %w", api.ErrUnavailable, err))
		return
	}
	if err := o.follow(); err != nil {
		o.answer(fmt.Errorf("%w: nothing was written: %w", api.ErrUnavailable, err))
		return
	}
	o.start()
}

// relay passes a home's answer on.
func (o *putOp) relay(resp *api.PutResponse) {
	o.c.stamps().Observe(version.Stamp(resp.Stamp))
	o.mu.Lock()
	if o.answered {
		o.mu.Unlock()
		return
	}
	o.answered = true
	o.mu.Unlock()
	o.c.sweep.remove(&o.in)
	o.sink.PutDone(resp, nil)
	o.drop()
}
