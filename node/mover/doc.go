// Package mover moves slots from member to member, as the ring record asks for.
//
// Every member runs one. It looks at the record and at what this node has noted on
// its disk, finds what is this node's to do (ring.Record.Agenda), pulls partitions
// through the Syncer, and proposes the steps that may be taken. It keeps nothing of
// its own but how often it failed: after any crash it goes on from the record and
// the notes alone.
//
// One member, the first active one that is there, keeps the queue of moves up with
// what the membership asks for, and takes out members that are lost and have nothing
// any more. A member that leaves takes itself out, once nobody needs anything of it.
//
// It promises to propose no step whose condition is not met by what is on disk, and
// to end whatever it started when Run returns. It decides nothing: package ring says
// which step may come, node/topology agrees on it, antientropy pulls.
package mover
