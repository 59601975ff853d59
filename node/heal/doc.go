// Package heal watches for members that stay away, tells a command of them, and, where
// that is asked for, gives their slots to others.
//
// It decides only when that is tried. What makes it safe is how slots move: a member that
// is given up leaves, with all the conditions that a leave has, and its copies are made
// from those of the other homes. One that was taken for dead and comes back in between
// helps with what is left; one that comes back later is no member any more, and must
// start anew with an empty directory. Nothing that was acknowledged depends on it.
//
// It is careful, because nobody is asked: a member must be away, by gossip and by
// requests, for as long as is configured; a majority of all members must be there; one
// member is given up at a time; and some time must be between two of them.
package heal
