package topology

import (
	"encoding/binary"
	"fmt"

	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
)

// The rules of agreement, pure. Register e+1 decides the record of epoch e+1.
// Its acceptors are the keepers of the decided record e.
//
//  1. A node that holds a decided record of the register's epoch or a later one
//     answers with it, and does not vote.
//  2. A node votes only while it holds the record before the register's, and
//     only if that lists it as a keeper and has not given it up as lost.
//  3. A cell is forgotten only when a record of its epoch or a later one is
//     durable here: then rule 1 speaks for it.
//  4. A proposer starts from a decided record and proposes only what follows it.
//
// What replaces agreement where a majority of the keepers is gone is in pledge.go.

// verdict is what a node does with a request for a register.
type verdict uint8

const (
	behind  verdict = iota // it lacks the record before the register's: adopt that first
	answers                // with the decided record that it holds
	refuses                // it is no keeper
	votes
)

// judge applies rules 1 and 2. held is nil for a node that has no record.
func judge(self ring.NodeID, held *ring.Record, register uint64) verdict {
	switch {
	case held == nil || held.Epoch+1 < register:
		return behind
	case held.Epoch >= register:
		return answers
	case !held.IsKeeper(self) || held.Member(self).State == ring.Lost:
		return refuses
	}
	return votes
}

// A cell is stored with the number of its register, 8 bytes, before it.
const registerSize = 8

// cellOf applies rule 3: it finds the cell of a register in what was stored
// last. An older register's cell is forgotten; rule 1 has replaced it, because
// this node holds the record before the register.
func cellOf(stored []byte, register uint64) (paxos.Cell, error) {
	if len(stored) == 0 {
		return paxos.Cell{}, nil
	}
	if len(stored) < registerSize {
		return paxos.Cell{}, fmt.Errorf("acceptor cell of %d bytes: %w", len(stored), paxos.ErrCorrupt)
	}
	switch of := binary.BigEndian.Uint64(stored); {
	case of < register:
		return paxos.Cell{}, nil
	case of > register:
		return paxos.Cell{}, fmt.Errorf("%w: it voted on epoch %d, but holds no newer record than that of epoch %d",
			ErrAbstains, of, register-1)
	}
	c, err := paxos.ParseCell(stored[registerSize:], ring.EncodedMax)
	if err != nil {
		return paxos.Cell{}, fmt.Errorf("acceptor cell of epoch %d: %w", register, err)
	}
	return c, nil
}

// storedCell is what cellOf reads.
func storedCell(register uint64, c paxos.Cell) []byte {
	return c.Append(binary.BigEndian.AppendUint64(nil, register))
}

// successor applies rule 4: it reads a proposed record and checks that it may
// follow the held one.
func successor(held *ring.Record, proposed []byte) (*ring.Record, error) {
	next, err := ring.Decode(proposed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadProposal, err)
	}
	if err := next.Follows(held); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadProposal, err)
	}
	return next, nil
}

// poll is a vote in the register after held, by a node that has stored that cell.
// If the reply is OK, store must be durable in its place before the reply leaves.
func poll(held *ring.Record, stored []byte, req *voteRequest) (reply paxos.Reply, store []byte, err error) {
	cell, err := cellOf(stored, req.Register)
	if err != nil {
		return paxos.Reply{}, nil, err
	}
	if req.Accept {
		if _, err := successor(held, req.Value); err != nil {
			return paxos.Reply{}, nil, err
		}
		cell, reply = cell.Accept(req.Ballot, req.Value)
	} else {
		cell, reply = cell.Prepare(req.Ballot)
	}
	return reply, storedCell(req.Register, cell), nil
}

// mayReplace says whether a decided record is news to a node that holds another
// one of a cluster of that name. Old news is no error.
func mayReplace(held *ring.Record, name string, next *ring.Record) (bool, error) {
	if held == nil {
		if next.Name != name {
			return false, fmt.Errorf("%w: the record is of cluster %q, this node is of %q", ErrOtherCluster, next.Name, name)
		}
		return true, nil
	}
	if next.Cluster != held.Cluster {
		return false, fmt.Errorf("%w: the record is of cluster %s, this node is of %s", ErrOtherCluster, next.Cluster, held.Cluster)
	}
	if err := held.Split(next); err != nil {
		return false, fmt.Errorf("%w: %w", ErrDiverged, err)
	}
	switch {
	case next.Epoch < held.Epoch:
		return false, nil
	case next.Epoch == held.Epoch:
		if a, b := next.Digest(), held.Digest(); a != b {
			return false, fmt.Errorf("%w: epoch %d has digests %x and %x", ErrDiverged, held.Epoch, a[:8], b[:8])
		}
		return false, nil
	case next.Epoch == held.Epoch+1 && len(next.Forced) == len(held.Forced):
		if err := next.Follows(held); err != nil {
			return false, fmt.Errorf("%w: %w", ErrDiverged, err)
		}
	}
	return true, nil
}
