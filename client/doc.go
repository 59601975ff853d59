// Package client is the Go client of a kith cluster.
//
// A Client learns the ring from any of the addresses that it is given and then
// sends each key's requests straight to one of the key's homes. It owns its
// connections and what it knows of the cluster: the ring record, which nodes
// answer, the cluster's ID, the latest stamp seen.
//
// It promises:
//
//   - Three outcomes, and never a fourth. No error: as many homes as asked for
//     have answered, a write is on their disks. Refused: nothing was written.
//     Unknown: some homes may have the write, and it may surface later. See
//     Refused and Unknown.
//   - A write is sent a second time only if the first one certainly did
//     nothing. Reads are repeated at other nodes until the deadline.
//   - Every call ends soon after its deadline, which travels with the request:
//     the context's, or else the one of WithTimeout.
//   - The writes of one client have rising stamps, whichever nodes they go to.
//   - The first answer pins the cluster: nodes of another one are refused.
//
// It does not resolve conflicts: a read returns every sibling and a context,
// and a write with that context replaces exactly what was read. It gives no
// atomicity over several keys.
//
// All methods of a Client may be called from many goroutines, and should: what
// many ask for at once shares its connections. A Client for each of 50 callers
// costs them and the servers a quarter more processor time for each write.
package client
