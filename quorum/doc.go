// Package quorum says when enough homes have answered.
//
// It owns the count: the Seats of one partition, that is to say who is asked for
// what by one record, also while a slot moves from one member to another; a Tally
// of one operation over those seats; what a level such as "quorum" means in numbers
// or in zones; and the error that names the homes which did not answer. All of it is
// pure, and a Tally allocates nothing.
//
// It sends nothing, waits for nothing, and does not know who can be reached.
package quorum
