// Package gossip knows who can be reached right now.
//
// It owns serf and memberlist and hides both: the failure detector, the tags
// in which a node tells the others about itself, the book of every peer ever
// met, and the search for those that are away.
//
// It promises a level, never a count of events: View is everyone as this node
// sees them now, and Changed wakes whoever waits for the next View. A node
// that was cut off, or restarted without a seed, looks for the peers of its
// book for ever. Members of another cluster are refused whole, on both sides,
// and so is a second process with the ID of a running one; that process is
// told to stop through Failed.
//
// It does not decide who owns what, carries no data, and never says for sure
// that a member is gone: Alive is a hint that lowers preference. Stopping is
// not leaving: Close tells nobody.
package gossip
