// Package ring says which homes hold which partition.
//
// It owns the ring record: its members, keepers, table and moves, what makes a
// record valid, which record may follow which, the plan from one table to the next,
// the changes of the membership, and what must be known before each step of a move
// and who has to see to it. Everything here is a pure function of its input, the same on every
// node; nothing waits, locks, or reads a clock.
//
// A key belongs to one of 16,384 slots (Redis Cluster's key hash), a slot to one
// of Q partitions, and the table gives every partition its N homes.
//
// It does not decide which record stands, spread it, or store it, and it knows
// nothing of who can be reached.
package ring
