// Package antientropy makes the homes of a partition equal, whatever made them
// differ: a node that was away, a cut network, a lost disk, rotten bytes.
//
// Three ways lead there, each for what the one before it cannot see. Catch-up
// compares partition clocks and pulls the writes whose dots are missing. The
// audit compares hash trees and finds copies that differ although their clocks
// say the same. The scrub reads what lies on disk. All end in the same act: a
// merge, with the verdict of the home that it comes from about what it lacks.
//
// While a slot moves, Sync has this node pull the whole partition under the epoch of
// the move's phase, before it answers reads in another one's place. Until a target is
// a home that is its only way to what it lacks; what all copies must agree to, it is
// asked for like a home.
//
// It also forgets tombstones, once every home holds the same one and nothing
// older can come any more, and sends home what this node keeps as a stand-in.
//
// It promises that repair never loses a value that was not replaced, never brings
// back one that was, and yields to requests. It decides no quorum: what it merges
// counts for nothing, and a partition that lacks something does not count for
// reads until Repaired.
package antientropy
