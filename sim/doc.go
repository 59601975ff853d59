// Package sim runs a whole cluster in one process, from one seed, in virtual
// time: the real node code over a simulated network, disk, membership and wall
// clock.
//
// It owns the worlds that nodes live in, the faults that befall them, the
// clients that keep a history of what they were told, and the checkers that hold
// the history against what is found in the end. Bubble gives virtual time; all
// else is used inside of one.
//
// It promises that a run which breaks a promise says which key, tells the key's
// story, and names the seed. Faults and workload come from the seed always; the
// order of events of one virtual instant is up to the scheduler, and is the same
// again with one processor and without the race detector.
//
// Membership follows the network's truth, or a script that may be wrong on
// purpose; with Options.Serf it is real serf, whose runs don't replay.
package sim
