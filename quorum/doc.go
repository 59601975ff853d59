// Package quorum says when enough homes have answered.
//
// It owns the count: a Tally of one operation over the home slots of one
// partition, also while a slot moves from one member to another; what a level
// such as "quorum" means in numbers; and the error that names the homes which
// did not answer. All of it is pure, and a Tally allocates nothing.
//
// It sends nothing, waits for nothing, and does not know which member stands
// behind a slot.
package quorum
