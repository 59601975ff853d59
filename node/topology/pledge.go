package topology

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/wire"
)

// When a majority of the keepers is gone for good, no register can decide any more. Then
// survivors, whom an operator names, force the next record in a register of their own, of
// which each of them is an acceptor, and which takes all of them to decide. There is one
// such register for each time that the ring is forced: its number is how many times it
// was, that one included. The rules, pure:
//
//  5. Who has promised a ballot of the next forced register votes in no ordinary one,
//     until it holds a record that was forced, or is released by the one whom it has
//     promised: that one has then asked nobody to accept.
//  6. Who has accepted a forced record adopts no other one behind that record's base.
//  7. A proposer takes the record that was accepted under the latest ballot by any of
//     those who promise: it may be decided. An older one whose acceptors share a member
//     with those of that ballot is not; without a common one, both may be: an error.

// pledge is what a member must never forget of the forced register that comes next.
type pledge struct {
	number   uint64 // of the forced register
	cell     paxos.Cell
	released bool // from the ballot that the cell has promised
}

// quorumMax bounds the encoding of those who have to accept a value, in bytes.
const quorumMax = 8 + 18*ring.MembersMax

// binds says that the member votes in no ordinary register (rule 5).
func (p *pledge) binds(held *ring.Record) bool {
	return p != nil && p.number == forcing(held) && !p.cell.Promised.IsZero() && !p.released
}

// forcing is the number of the forced register that comes next after a record.
func forcing(held *ring.Record) uint64 { return uint64(len(held.Forced)) + 1 }

// next is the pledge in the forced register after held: an older one is forgotten, since
// the record that it led to is held.
func (p *pledge) next(held *ring.Record) pledge {
	if p == nil || p.number != forcing(held) {
		return pledge{number: forcing(held)}
	}
	return *p
}

// accepted is the record that the member has accepted in the forced register after held;
// nil for none.
func (p *pledge) accepted(held *ring.Record) *forced {
	if p == nil || p.number != forcing(held) || p.cell.Accepted.IsZero() {
		return nil
	}
	f, err := parseForced(p.cell.Value)
	if err != nil {
		panic("topology: what was checked before it was accepted does not parse: " + err.Error())
	}
	return f
}

// adopts applies rule 6.
func (p *pledge) adopts(held, next *ring.Record) error {
	f := p.accepted(held)
	if f == nil || len(next.Forced) > len(held.Forced) || next.Epoch <= f.record.LastForced().Base {
		return nil
	}
	return fmt.Errorf("%w: epoch %d comes behind the base of epoch %d, which this member has accepted to be forced", ErrPledged, next.Epoch, f.record.Epoch)
}

// ballot applies the acceptor's rules to a request of a forced register's proposer. If
// the reply is OK, store must be durable before it leaves.
func (p *pledge) ballot(self ring.NodeID, held *ring.Record, req *surviveRequest) (reply paxos.Reply, store pledge, err error) {
	store = p.next(held)
	if req.Number != store.number {
		return reply, store, fmt.Errorf("%w: forced register %d, this member has come to %d", ErrBadProposal, req.Number, store.number)
	}
	switch req.Step {
	case stepPrepare:
		if store.cell, reply = store.cell.Prepare(req.Ballot); reply.OK {
			store.released = false
		}
	case stepAccept:
		if err := mayForce(self, held, req.Value); err != nil {
			return reply, store, err
		}
		if store.released || store.cell.Promised != req.Ballot { // all have promised before any is asked
			return paxos.Reply{Promised: store.cell.Promised}, store, nil
		}
		store.cell, reply = store.cell.Accept(req.Ballot, req.Value)
	case stepRelease:
		if reply.OK = store.cell.Promised == req.Ballot && store.cell.Accepted.IsZero(); reply.OK {
			store.released = true
		}
	default:
		return reply, store, fmt.Errorf("%w: step %d of a forced register", ErrBadProposal, req.Step)
	}
	return reply, store, nil
}

// mayForce checks that a record may be forced on one that is held, with this member
// among those who have to accept it.
func mayForce(self ring.NodeID, held *ring.Record, value []byte) error {
	f, err := parseForced(value)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrBadProposal, err)
	case !slices.Contains(f.quorum, self):
		return fmt.Errorf("%w: it does not name this member among those who have to accept", ErrBadProposal)
	case f.record.Cluster != held.Cluster:
		return fmt.Errorf("%w: the proposal is for cluster %s, this node is of %s", ErrOtherCluster, f.record.Cluster, held.Cluster)
	case f.record.Epoch <= held.Epoch || uint64(len(f.record.Forced)) != forcing(held):
		return fmt.Errorf("%w: epoch %d cannot be forced on epoch %d", ErrBadProposal, f.record.Epoch, held.Epoch)
	}
	if err := f.record.Split(held); err != nil {
		return fmt.Errorf("%w: %w", ErrDiverged, err)
	}
	return nil
}

// forced is a value of a forced register.
type forced struct {
	quorum  []ring.NodeID // who have to accept it
	record  *ring.Record
	encoded []byte
}

func (f *forced) encode() []byte {
	b := wire.AppendArray(nil, 2)
	b = wire.AppendArray(b, len(f.quorum))
	for _, id := range f.quorum {
		b = wire.AppendBytes(b, id[:])
	}
	return wire.AppendBytes(b, f.encoded)
}

func parseForced(value []byte) (*forced, error) {
	r := wire.NewReader(value)
	s := r.Struct()
	f := &forced{}
	n := s.Array()
	if n > ring.MembersMax {
		return nil, fmt.Errorf("%d acceptors of a forced record, at most %d", n, ring.MembersMax)
	}
	for range n {
		var id ring.NodeID
		r.Fixed(id[:])
		f.quorum = append(f.quorum, id)
	}
	f.encoded = bytes.Clone(s.Bytes())
	if err := errors.Join(s.End(), r.Err()); err != nil {
		return nil, fmt.Errorf("forced record: %w", err)
	}
	var err error
	if f.record, err = ring.Decode(f.encoded); err != nil {
		return nil, err
	}
	if f.record.LastForced() == nil {
		return nil, errors.New("the record was not forced")
	}
	return f, nil
}

// chosen applies rule 7 to what some members have accepted; nil for nothing.
func chosen(members []ring.NodeID, cells []paxos.Cell) (found *forced, err error) {
	all := make([]*forced, len(cells))
	var latest paxos.Ballot
	for i, c := range cells {
		if c.Accepted.IsZero() {
			continue
		}
		if all[i], err = parseForced(c.Value); err != nil {
			return nil, fmt.Errorf("what member %s has accepted: %w", members[i].Short(), err)
		}
		if c.Accepted.Compare(latest) > 0 {
			latest, found = c.Accepted, all[i]
		}
	}
	for _, f := range all {
		if f != nil && !bytes.Equal(f.encoded, found.encoded) && !slices.ContainsFunc(f.quorum, func(id ring.NodeID) bool { return slices.Contains(found.quorum, id) }) {
			return nil, fmt.Errorf("%w: %w: epochs %d and %d may both be forced, by survivors that have no member in common",
				ErrDiverged, ring.ErrSplit, found.record.Epoch, f.record.Epoch)
		}
	}
	return found, nil
}

func (p *pledge) encode() []byte {
	b := wire.AppendArray(nil, 3)
	b = wire.AppendUint(b, p.number)
	b = wire.AppendBool(b, p.released)
	return wire.AppendBytes(b, p.cell.Append(nil))
}

func parsePledge(stored []byte) (*pledge, error) {
	r := wire.NewReader(stored)
	s := r.Struct()
	p := &pledge{}
	p.number = s.Uint()
	p.released = s.Bool()
	cell := bytes.Clone(s.Bytes())
	if err := errors.Join(s.End(), r.Err()); err != nil {
		return nil, fmt.Errorf("pledge: %w", err)
	}
	var err error
	if p.cell, err = paxos.ParseCell(cell, quorumMax+ring.EncodedMax); err != nil {
		return nil, fmt.Errorf("pledge: %w", err)
	}
	if !p.cell.Accepted.IsZero() {
		if _, err := parseForced(p.cell.Value); err != nil {
			return nil, fmt.Errorf("pledge: %w", err)
		}
	}
	return p, nil
}
