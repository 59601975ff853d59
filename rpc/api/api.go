// Package api holds the messages that clients and nodes share, and the errors
// that nodes answer with.
package api

import (
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// Routes that any client may call on any node.
const (
	Get    rpc.Route[GetRequest, GetResponse]       = "kv.get"
	Put    rpc.Route[PutRequest, PutResponse]       = "kv.put"
	GetAll rpc.Route[GetAllRequest, GetAllResponse] = "kv.getall"
	PutAll rpc.Route[PutAllRequest, PutAllResponse] = "kv.putall"
	Scan   rpc.Route[ScanRequest, ScanResponse]     = "kv.scan"
	Ring   rpc.Route[RingRequest, RingResponse]     = "cluster.ring"
	Status rpc.Route[StatusRequest, StatusResponse] = "cluster.status"

	Inspect rpc.Route[InspectRequest, InspectResponse] = "kv.inspect"
	Repair  rpc.Route[RepairRequest, RepairResponse]   = "repair.run"
)

// Level says how many homes must answer, or which.
type Level uint8

// The levels with a name. Every other one is a number of homes, 1 to N.
//
// A read sees every write that was acknowledged before, if both their levels are
// the same and one of Quorum, EachQuorum, and LocalQuorum in one zone; if one is
// EachQuorum or All and the other any of these four; if one is EachQuorum and the
// other more than N homes less those that EachQuorum asks for; if one is LocalQuorum
// and the other more than N homes less those that LocalQuorum asks for; and if they
// are numbers that add up to more than N. It may miss one otherwise: in particular
// with LocalQuorum in two different zones, or with it and Quorum.
const (
	Default Level = 0 // the cluster's: quorum
	One     Level = 1
	// LocalQuorum is more than half of the homes in the caller's zone, of which there
	// must be one: that which the request names, or the coordinator's own.
	LocalQuorum Level = 252
	// EachQuorum is more than half of the homes in each zone that has any.
	EachQuorum Level = 253
	Quorum     Level = 254 // more than half of the homes
	All        Level = 255
)

// BatchMax is the most items that GetAll and PutAll take.
const BatchMax = 1024

// GetRequest reads one key.
type GetRequest struct {
	Key []byte // 1 to 4,096 bytes
	R   Level  // how many homes must answer
	// Stamp is the latest reading of a clock that the client has seen.
	Stamp uint64
	// Zone is the caller's, for LocalQuorum; empty for the coordinator's own.
	Zone string
}

// Value is one sibling.
type Value struct {
	Data      []byte // none of a tombstone
	Tombstone bool   // it is a delete
	// Stamp is the sibling's hybrid logical time.
	Stamp uint64
	// Expiry is in milliseconds since 1970; 0 is never. A value that has
	// expired is a tombstone to its readers.
	Expiry uint64
}

// GetResponse is the outcome of a read that had enough homes.
type GetResponse struct {
	// Found says that Values[Winner] can be read: it is no tombstone and
	// has not expired.
	Found  bool
	Winner int
	// Values are all siblings, tombstones included.
	Values []Value
	// Context names what was read, for a later put of the same key. It is
	// opaque and never empty.
	Context []byte
	Receipt Receipt
	Stamp   uint64
}

// PutRequest writes or deletes one key.
type PutRequest struct {
	Key    []byte // 1 to 4,096 bytes
	Value  []byte // up to the limit of the coordinator, 1 MiB unless set
	Delete bool   // a write without Value
	W      Level  // how many homes must have it on disk
	// Context is what a read returned; empty for a write that replaces
	// whatever its coordinator holds.
	Context []byte
	// NotAfter is the absolute deadline in milliseconds since 1970: no
	// home accepts the write later. 0 leaves it to the coordinator.
	NotAfter uint64
	// Forwarded says that the sender is a node that is no home of the key.
	Forwarded bool
	Stamp     uint64
	// TTL is how long the value can be read, in milliseconds after the
	// write's own stamp, up to TTLMax; 0 is for ever. A delete has none.
	TTL uint64
	// Sloppy lets members that stand in for homes believed dead count for W.
	Sloppy bool
	// Expiry is when the value stops to be readable, in milliseconds since
	// 1970, for who knows that and not how long; 0 is never. It may have
	// passed. A request has a TTL, an Expiry or neither.
	Expiry uint64
	// Zone is the caller's, for LocalQuorum; empty for the coordinator's own.
	Zone string
}

// TTLMax is the longest TTL, in milliseconds: 100 years. No Expiry is further
// from the write's own stamp either.
const TTLMax = 100 * 365 * 24 * 3600 * 1000

// PutResponse is the outcome of a write that W homes have on disk.
type PutResponse struct {
	// Context covers the write, for a later put of the same key.
	Context []byte
	Receipt Receipt
	Stamp   uint64
}

// Receipt says how an operation was done.
type Receipt struct {
	// Epoch is that of the ring record which was used.
	Epoch uint64
	// Coordinator is the node that did it.
	Coordinator ring.NodeID
	// Answered are the homes that had answered or acknowledged by then, and
	// the stand-ins that were counted for homes.
	Answered []ring.NodeID
	// Need is how many homes were asked for: with levels in zones, in all of them
	// together.
	Need uint8
	// Siblings that the key has now, as far as the coordinator knows.
	Siblings int
	// Sloppy says that a stand-in was counted.
	Sloppy bool
	// Repaired says that the read wrote the merged record back.
	Repaired bool
	// Zones say what was asked for in each zone, and had; nil at levels that do not
	// ask for homes in zones.
	Zones []ZoneReceipt
}

// ZoneReceipt is what an operation had in one zone.
type ZoneReceipt struct {
	Zone string // as members name theirs
	// Need of the Homes there had to answer, Got had.
	Need, Got, Homes uint8
}

// GetAllRequest reads many keys, each on its own.
type GetAllRequest struct {
	Keys  [][]byte // at most BatchMax
	R     Level    // of each
	Stamp uint64   // as in GetRequest
	Zone  string   // as in GetRequest
}

// GetResult is a response or an error.
type GetResult struct {
	// Response is empty if there is an Error.
	Response GetResponse
	// Error is what rpc.AppendError wrote; empty for none.
	Error []byte
}

// GetAllResponse has the results in the order of the keys.
type GetAllResponse struct{ Results []GetResult }

// PutAllRequest writes many keys, each on its own: there is no atomicity. Two
// writes of one key are applied in some order.
type PutAllRequest struct {
	Puts []PutRequest // at most BatchMax
}

// PutResult is a response or an error.
type PutResult struct {
	// Response is empty if there is an Error.
	Response PutResponse
	// Error is what rpc.AppendError wrote; empty for none.
	Error []byte
}

// PutAllResponse has the results in the order of the puts.
type PutAllResponse struct{ Results []PutResult }

// ScanRequest reads a page of one partition's live keys with their winners.
type ScanRequest struct {
	Partition uint16 // below the number of partitions
	// After is the last key of the page before; empty to begin.
	After  []byte
	Prefix []byte
	// Limit of keys; 0 is 256.
	Limit    int
	R        Level
	KeysOnly bool
	Zone     string // as in GetRequest
}

// ScanItem is one key that can be read.
type ScanItem struct {
	Key, Value []byte // the value is the winner's; none with KeysOnly
	Siblings   int    // as in Receipt
	// Expiry of the winner, in milliseconds since 1970; 0 is never.
	Expiry uint64
}

// ScanResponse is a page, sorted by key.
type ScanResponse struct {
	Items []ScanItem // each key once
	// Next is the After of the next page; empty at the end. It may lie
	// behind the last item.
	Next []byte
}

// RingRequest asks for the ring record.
type RingRequest struct {
	// Epoch that the asker has; a node with no newer one answers without
	// the record.
	Epoch uint64
}

// RingResponse carries the encoded record, and where its members are.
type RingResponse struct {
	Epoch  uint64 // of the record that the node holds
	Record []byte // as ring.Decode takes it; empty if the asker has it
	// Now is the wall clock of the node that answers, in milliseconds since
	// 1970, by which a client sets the deadlines of its writes.
	Now     int64
	Members []MemberAddress
}

// MemberAddress is where clients reach a member.
type MemberAddress struct {
	ID    ring.NodeID
	Addr  string // HOST:PORT for clients; empty if the node does not know it
	Alive bool   // as the node believes that answers
}

// StatusRequest asks a node for the cluster as it sees it.
type StatusRequest struct {
	// Local asks for the node itself only.
	Local bool
}

// StatusResponse is the cluster as one node sees it. Its JSON is the contract of
// `kith status --format json`.
type StatusResponse struct {
	ClusterID  string         `json:"cluster_id"`       // 32 hexadecimal digits; empty before the node has a ring record
	Cluster    string         `json:"cluster"`          // its name
	Epoch      uint64         `json:"epoch"`            // of the ring record that the node holds
	Partitions int            `json:"partitions"`       // fixed when the cluster was founded
	Replicas   int            `json:"replicas"`         // how many homes a key has, or is to have
	Ready      bool           `json:"ready"`            // the node calls the cluster ready to be used
	Reason     string         `json:"reason,omitempty"` // why it is not
	Node       string         `json:"node"`             // ID of the node that answered
	Members    []MemberStatus `json:"members"`          // those of the ring, behind them who is about to join
}

// MemberStatus is one member as the answering node sees it.
type MemberStatus struct {
	Name    string `json:"name"`    // for people
	ID      string `json:"id"`      // 32 hexadecimal digits
	Zone    string `json:"zone"`    // empty for none
	Address string `json:"address"` // HOST:PORT for clients; empty if nobody has told it
	Gossip  string `json:"gossip"`  // HOST:PORT of its gossip
	// State is founding, joining, standby, ready, recovering, catching-up, draining or
	// failed, as the member says, or unreachable or lost, as the answering node does.
	State     string `json:"state"`
	Reachable bool   `json:"reachable"` // the answering node would try a request
	Keeper    bool   `json:"keeper"`    // it votes on the next ring record
	Homes     int    `json:"homes"`     // slots that it has
	Keys      int64  `json:"keys"`      // about how many records it holds
	Disk      int64  `json:"disk"`      // bytes
	// Problems are sentences, worst first.
	Problems []string `json:"problems"`
	Version  string   `json:"version"` // of its program
	Epoch    uint64   `json:"epoch"`   // of the ring record that it holds
	// ClockOffset is how far the member's clock is ahead of the answering
	// node's, in seconds; negative is behind.
	ClockOffset float64 `json:"clock_offset"`
	// Records and Syncs count what was written to disk since the start:
	// their ratio is how many writes share an fsync.
	Records int64 `json:"records"`
	Syncs   int64 `json:"syncs"`
	// Repair says how far the member's copies are from the other homes'.
	Repair RepairStatus `json:"repair"`
	// Membership is the member's part in the ring record: active, standby,
	// leaving, retreating or lost; empty for none.
	Membership string `json:"membership"`
	// MovesIn and MovesOut are the slots that are queued or under way to it, and
	// from it.
	MovesIn  int `json:"moves_in"`
	MovesOut int `json:"moves_out"`
}
