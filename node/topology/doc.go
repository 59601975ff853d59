// Package topology is the ring record on this node, and the conversation in
// which nodes agree on the next one.
//
// It owns the decided record that this node holds durably, and, where the node
// is a keeper, its acceptor's cell for the record after it. It founds a cluster,
// proposes records, votes on them, learns decided ones from others and tells
// others which one it holds.
//
// It promises that for every epoch at most one record is ever decided, that only
// decided records are held, told or proposed from, that what Current returns is
// durable here, and that a change is reported as done only when a majority of
// the keepers that follow it stores the record. Record e+1 is decided in a
// register of its own (package paxos), whose acceptors are the keepers of record
// e; the rules are in rules.go.
//
// It does not decide who is home of what (package ring does), it does not know
// who can be reached (package gossip does), and it does not check the fences:
// the store does, with what Adopt gives it.
package topology
