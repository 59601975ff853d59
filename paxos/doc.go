// Package paxos is a register that is written once, by agreement of a majority
// of its acceptors, without any leader: single-decree Paxos (Lamport, "Paxos
// Made Simple", 2001).
//
// It owns the ballots, the acceptor's rules (Cell) and the proposer's rules
// (Proposer), all pure, and one way to drive them (Propose).
//
// It promises that at most one value is ever decided, that it was proposed by
// somebody, and that a proposer that nobody disturbs and that reaches a majority
// comes to a decision. This holds under lost, late and repeated messages, and
// for proposers that die at any point and forget all. It does not hold for an
// acceptor that forgets: a Cell is durable before its answer leaves.
//
// It does not know what a value means, how acceptors are reached, or who they
// are: a register has one fixed set of them, which its user answers for.
package paxos
