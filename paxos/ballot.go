package paxos

import (
	"bytes"
	"cmp"
	"fmt"
)

// Node names a proposer. No two that are alive have the same name.
type Node [16]byte

// RoundMax is the highest round. Counting to it takes for ever; a higher number
// is damage, and is refused wherever it appears.
const RoundMax = 1<<62 - 1

// Ballot orders attempts: by round, then by proposer. The zero Ballot is before
// all of them and belongs to none.
type Ballot struct {
	Round uint64 // 1 to RoundMax
	Node  Node
}

// Compare is negative if b is before o, positive if behind it.
func (b Ballot) Compare(o Ballot) int {
	if c := cmp.Compare(b.Round, o.Round); c != 0 {
		return c
	}
	return bytes.Compare(b.Node[:], o.Node[:])
}

// IsZero says that the ballot belongs to no attempt.
func (b Ballot) IsZero() bool { return b == Ballot{} }

// String gives round and proposer, for people.
func (b Ballot) String() string { return fmt.Sprintf("%d/%x", b.Round, b.Node[:4]) }

func (b Ballot) usable() bool { return b.Round >= 1 && b.Round <= RoundMax }
