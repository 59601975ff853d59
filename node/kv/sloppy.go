package kv

import (
	"errors"
	"slices"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/store/version"
)

// The sender's side of stand-ins. A put whose home cannot be reached sends the
// home's record to a stand-in. In a sloppy put that takes the home's place until
// it has failed too; in a strict one it counts for nothing, nobody waits for it,
// and it only saves the home some catching up.

// standingMax bounds the bytes under way to stand-ins that do not count.
const standingMax = 8 << 20

// standing are the stand-ins of one attempt at a put. It is guarded by the put's
// mutex, but for members, which never change.
type standing struct {
	members []ring.NodeID // in the partition's order
	next    int           // of members
	// asked says that a stand-in decides what becomes of the home's slot, and
	// by names the one that has acknowledged for it.
	asked [ring.ReplicasMax]bool
	by    [ring.ReplicasMax]ring.NodeID
}

// appendCounted appends those that were counted for homes.
func (s *standing) appendCounted(to []ring.NodeID) []ring.NodeID {
	for _, id := range s.by {
		if !id.IsZero() {
			to = append(to, id)
		}
	}
	return to
}

// lookForStandIns finds the members that could stand in for the put's homes.
func (o *putOp) lookForStandIns() *standing {
	return &standing{members: o.c.standIns(o.ring, o.p, func(id ring.NodeID) bool {
		return id != o.c.cfg.Self && !slices.Contains(o.homes[o.slots:], id) && o.c.Reachable(id)
	})}
}

// standLeg is a stand-in's part in an attempt.
type standLeg struct {
	putLeg
	m       standInRequest
	counted bool // in Coordinator.standing
}

// standIn chooses a stand-in for a home that failed with err, nil if there is none
// or shall be none; the target of a move has none. o.mu is held; the record has been minted.
func (o *putOp) standIn(home int, err error) *standLeg {
	if !o.minted || home >= o.slots || !errors.Is(err, rpc.ErrUnreachable) && !errors.Is(err, rpc.ErrLost) && !rpc.NotSent(err) {
		return nil
	}
	if o.stand == nil {
		if !o.req.Sloppy {
			return nil // it was there a moment ago
		}
		o.stand = o.lookForStandIns()
	}
	s := o.stand
	s.asked[home] = false
	if s.next == len(s.members) {
		return nil
	}
	l := &standLeg{putLeg: putLeg{op: o, attempt: o.attempt, home: home, id: s.members[s.next]}}
	l.m = standInRequest{Home: o.homes[home], Epoch: o.ring.Since[o.p], Stamp: o.merge.Stamp, Record: o.encoded}
	if !o.req.Sloppy {
		if size := int64(len(o.encoded)); o.c.standing.Add(size) > standingMax {
			o.c.standing.Add(-size)
			return nil
		}
		l.counted = true
	}
	s.next++
	s.asked[home] = o.req.Sloppy
	return l
}

// sendStandIn sends the record to the stand-in that was chosen.
func (o *putOp) sendStandIn(l *standLeg) {
	o.hold()
	to, ok := o.c.peer(l.id)
	if !ok {
		l.Complete(nil, rpc.ErrUnreachable)
		return
	}
	standInRoute.Send(o.c.cfg.Transport, to, &l.m, o.theirs, l)
}

// Complete implements rpc.Completer: the stand-in's answer.
func (l *standLeg) Complete(reply []byte, err error) {
	o := l.op
	defer o.drop()
	if l.counted {
		o.c.standing.Add(-int64(len(l.m.Record)))
	}
	if err == nil {
		if err = standInRoute.Decode(reply, &l.resp); err == nil {
			o.c.stamps().Observe(version.Stamp(l.resp.Stamp))
			if w := o.c.cfg.Witness; w != nil && l.resp.Batches > 0 {
				w.Told(l.id, l.resp.Batches)
			}
		}
	}
	if o.req.Sloppy {
		o.standInAnswered(l, err)
	}
}

// standInAnswered counts a stand-in's answer to a sloppy put for its home. In the
// place of one that fails comes the next one.
func (o *putOp) standInAnswered(l *standLeg, err error) {
	o.mu.Lock()
	switch {
	case l.attempt != o.attempt || o.answered:
		o.mu.Unlock()
		return
	case rerouted(err):
		o.attempt++
		o.mu.Unlock()
		o.slow(func() { o.again(l.id) })
		return
	case err == nil:
		o.stand.by[l.home] = l.id
		o.tally.Ack(l.home)
	default:
		o.stand.asked[l.home] = false
		if another := o.standIn(l.home, rpc.ErrUnreachable); another != nil {
			defer o.sendStandIn(another)
		} else {
			o.tally.Fail(l.home)
		}
	}
	o.counted()
}
