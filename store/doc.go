// Package store keeps one node's records, durable, by partition.
//
// It owns the files of one goleveldb, the committer that does every
// read-modify-write, the actors that mint dots, the partition clocks, the
// fences, and the evidence against silent loss. It promises:
//
//   - Committed(nil) means on disk: the write batch was synced.
//   - Reads see committed state only. What a merge relied on is committed
//     before the merge is.
//   - A failed write stops the store: nothing is acknowledged until its files
//     were closed, opened again and found whole. No dot is minted twice.
//   - Synced data that is gone is noticed, named in Health and in the log, and
//     never read as "absent" by somebody who counts this node (CountsForRead).
//
// It does not know members, rings, requests or other homes, and it never
// repairs: it says what it cannot vouch for.
package store
