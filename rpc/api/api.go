// Package api holds the messages that clients and nodes share, and the errors
// that nodes answer with.
package api

import (
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
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
)

// Level says how many homes must answer.
type Level uint8

// The levels with a name. Every other one is a number of homes, 1 to N.
const (
	Default Level = 0 // the cluster's: quorum
	One     Level = 1
	Quorum  Level = 254 // more than half of the homes
	All     Level = 255
)

// BatchMax is the most items that GetAll and PutAll take.
const BatchMax = 1024

// GetRequest reads one key.
type GetRequest struct {
	Key []byte
	R   Level
	// Stamp is the latest reading of a clock that the client has seen.
	Stamp uint64
}

// Value is one sibling.
type Value struct {
	Data      []byte
	Tombstone bool
	// Stamp is the sibling's hybrid logical time.
	Stamp uint64
	// Expiry is in milliseconds since 1970; 0 is never.
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
	Key    []byte
	Value  []byte
	Delete bool
	W      Level
	// Context is what a read returned; empty for a write that replaces
	// whatever its coordinator holds.
	Context []byte
	// NotAfter is the absolute deadline in milliseconds since 1970: no
	// home accepts the write later. 0 leaves it to the coordinator.
	NotAfter uint64
	// Forwarded says that the sender is a node that is no home of the key.
	Forwarded bool
	Stamp     uint64
}

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
	// Answered are the homes that had answered or acknowledged by then.
	Answered []ring.NodeID
	Need     uint8
	// Siblings that the key has now, as far as the coordinator knows.
	Siblings int
	// Sloppy says that a stand-in was counted.
	Sloppy bool
	// Repaired says that the read wrote the merged record back.
	Repaired bool
}

// GetAllRequest reads many keys, each on its own.
type GetAllRequest struct {
	Keys  [][]byte
	R     Level
	Stamp uint64
}

// GetResult is a response or an error.
type GetResult struct {
	Response GetResponse
	// Error is what rpc.AppendError wrote; empty for none.
	Error []byte
}

// GetAllResponse has the results in the order of the keys.
type GetAllResponse struct{ Results []GetResult }

// PutAllRequest writes many keys, each on its own: there is no atomicity. Two
// writes of one key are applied in some order.
type PutAllRequest struct{ Puts []PutRequest }

// PutResult is a response or an error.
type PutResult struct {
	Response PutResponse
	Error    []byte
}

// PutAllResponse has the results in the order of the puts.
type PutAllResponse struct{ Results []PutResult }

// ScanRequest reads a page of one partition's live keys with their winners.
type ScanRequest struct {
	Partition uint16
	// After is the last key of the page before; empty to begin.
	After  []byte
	Prefix []byte
	// Limit of keys; 0 is 256.
	Limit    int
	R        Level
	KeysOnly bool
}

// ScanItem is one key that can be read.
type ScanItem struct {
	Key, Value []byte
	Siblings   int
}

// ScanResponse is a page, sorted by key.
type ScanResponse struct {
	Items []ScanItem
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
	Epoch  uint64
	Record []byte
	// Now is the wall clock of the node that answers, in milliseconds since
	// 1970, by which a client sets the deadlines of its writes.
	Now     int64
	Members []MemberAddress
}

// MemberAddress is where clients reach a member.
type MemberAddress struct {
	ID    ring.NodeID
	Addr  string
	Alive bool
}

// StatusRequest asks a node for the cluster as it sees it.
type StatusRequest struct {
	// Local asks for the node itself only.
	Local bool
}

// StatusResponse is the cluster as one node sees it. Its JSON is the contract of
// `kith status --format json`.
type StatusResponse struct {
	ClusterID  string         `json:"cluster_id"`
	Cluster    string         `json:"cluster"`
	Epoch      uint64         `json:"epoch"`
	Partitions int            `json:"partitions"`
	Replicas   int            `json:"replicas"`
	Ready      bool           `json:"ready"`
	Reason     string         `json:"reason,omitempty"`
	Node       string         `json:"node"` // ID of the node that answered
	Members    []MemberStatus `json:"members"`
}

// MemberStatus is one member as the answering node sees it.
type MemberStatus struct {
	Name      string `json:"name"`
	ID        string `json:"id"`
	Zone      string `json:"zone"`
	Address   string `json:"address"`
	Gossip    string `json:"gossip"`
	State     string `json:"state"` // ready, joining, standby, failed, ...
	Reachable bool   `json:"reachable"`
	Keeper    bool   `json:"keeper"`
	Homes     int    `json:"homes"`
	Keys      int64  `json:"keys"`
	Disk      int64  `json:"disk"` // bytes
	// Problems are sentences, worst first.
	Problems []string `json:"problems"`
	Version  string   `json:"version"`
	Epoch    uint64   `json:"epoch"`
	// ClockOffset is how far the member's clock is ahead of the answering
	// node's, in seconds; negative is behind.
	ClockOffset float64 `json:"clock_offset"`
	// Records and Syncs count what was written to disk since the start:
	// their ratio is how many writes share an fsync.
	Records int64 `json:"records"`
	Syncs   int64 `json:"syncs"`
}

// AppendWire implements wire.Appender.
func (m *GetRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 3)
	b = wire.AppendBytes(b, m.Key)
	b = wire.AppendUint(b, uint64(m.R))
	return wire.AppendUint(b, m.Stamp)
}

// ParseWire implements wire.Parser.
func (m *GetRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Key = s.Bytes()
	m.R = Level(s.UintMax(255))
	m.Stamp = s.Uint()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *Value) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 4)
	b = wire.AppendBytes(b, m.Data)
	b = wire.AppendBool(b, m.Tombstone)
	b = wire.AppendUint(b, m.Stamp)
	return wire.AppendUint(b, m.Expiry)
}

// ParseWire implements wire.Parser.
func (m *Value) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Data = s.Bytes()
	m.Tombstone = s.Bool()
	m.Stamp = s.Uint()
	m.Expiry = s.Uint()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *GetResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 6)
	b = wire.AppendBool(b, m.Found)
	b = wire.AppendUint(b, uint64(m.Winner))
	b = wire.AppendArray(b, len(m.Values))
	for i := range m.Values {
		b = m.Values[i].AppendWire(b)
	}
	b = wire.AppendBytes(b, m.Context)
	b = m.Receipt.AppendWire(b)
	return wire.AppendUint(b, m.Stamp)
}

// ParseWire implements wire.Parser.
func (m *GetResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Found = s.Bool()
	m.Winner = int(s.UintMax(1 << 20))
	m.Values = parseList[Value](r, s.Array(), siblingsMax)
	m.Context = s.Bytes()
	if s.More() {
		m.Receipt.ParseWire(r)
	}
	m.Stamp = s.Uint()
	if err := s.End(); err != nil {
		return err
	}
	if m.Found && m.Winner >= len(m.Values) {
		return wire.ErrMalformed
	}
	return nil
}

// AppendWire implements wire.Appender.
func (m *PutRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 8)
	b = wire.AppendBytes(b, m.Key)
	b = wire.AppendBytes(b, m.Value)
	b = wire.AppendBool(b, m.Delete)
	b = wire.AppendUint(b, uint64(m.W))
	b = wire.AppendBytes(b, m.Context)
	b = wire.AppendUint(b, m.NotAfter)
	b = wire.AppendBool(b, m.Forwarded)
	return wire.AppendUint(b, m.Stamp)
}

// ParseWire implements wire.Parser.
func (m *PutRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Key = s.Bytes()
	m.Value = s.Bytes()
	m.Delete = s.Bool()
	m.W = Level(s.UintMax(255))
	m.Context = s.Bytes()
	m.NotAfter = s.Uint()
	m.Forwarded = s.Bool()
	m.Stamp = s.Uint()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *PutResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 3)
	b = wire.AppendBytes(b, m.Context)
	b = m.Receipt.AppendWire(b)
	return wire.AppendUint(b, m.Stamp)
}

// ParseWire implements wire.Parser.
func (m *PutResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Context = s.Bytes()
	if s.More() {
		m.Receipt.ParseWire(r)
	}
	m.Stamp = s.Uint()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *Receipt) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 7)
	b = wire.AppendUint(b, m.Epoch)
	b = wire.AppendBytes(b, m.Coordinator[:])
	b = wire.AppendArray(b, len(m.Answered))
	for i := range m.Answered {
		b = wire.AppendBytes(b, m.Answered[i][:])
	}
	b = wire.AppendUint(b, uint64(m.Need))
	b = wire.AppendUint(b, uint64(m.Siblings))
	b = wire.AppendBool(b, m.Sloppy)
	return wire.AppendBool(b, m.Repaired)
}

// ParseWire implements wire.Parser.
func (m *Receipt) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Epoch = s.Uint()
	s.Fixed(m.Coordinator[:])
	if n := s.Array(); n > 0 {
		if n > 2*ring.ReplicasMax {
			return wire.ErrMalformed
		}
		m.Answered = make([]ring.NodeID, n)
		for i := range m.Answered {
			r.Fixed(m.Answered[i][:])
		}
	}
	m.Need = uint8(s.UintMax(255))
	m.Siblings = int(s.UintMax(1 << 20))
	m.Sloppy = s.Bool()
	m.Repaired = s.Bool()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *GetAllRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 3)
	b = wire.AppendArray(b, len(m.Keys))
	for _, k := range m.Keys {
		b = wire.AppendBytes(b, k)
	}
	b = wire.AppendUint(b, uint64(m.R))
	return wire.AppendUint(b, m.Stamp)
}

// ParseWire implements wire.Parser.
func (m *GetAllRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	n := s.Array()
	if n > BatchMax {
		return wire.ErrMalformed
	}
	if n > 0 {
		m.Keys = make([][]byte, n)
	}
	for i := range m.Keys {
		m.Keys[i] = r.Bytes()
	}
	m.R = Level(s.UintMax(255))
	m.Stamp = s.Uint()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *GetResult) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 2)
	b = wire.AppendBytes(b, m.Error)
	if len(m.Error) > 0 {
		return wire.AppendArray(b, 0)
	}
	return m.Response.AppendWire(b)
}

// ParseWire implements wire.Parser.
func (m *GetResult) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Error = s.Bytes()
	if s.More() {
		m.Response.ParseWire(r)
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *GetAllResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 1)
	b = wire.AppendArray(b, len(m.Results))
	for i := range m.Results {
		b = m.Results[i].AppendWire(b)
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *GetAllResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Results = parseList[GetResult](r, s.Array(), BatchMax)
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *PutAllRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 1)
	b = wire.AppendArray(b, len(m.Puts))
	for i := range m.Puts {
		b = m.Puts[i].AppendWire(b)
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *PutAllRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	n := s.Array()
	if n > BatchMax {
		return wire.ErrMalformed
	}
	m.Puts = parseList[PutRequest](r, n, BatchMax)
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *PutResult) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 2)
	b = wire.AppendBytes(b, m.Error)
	if len(m.Error) > 0 {
		return wire.AppendArray(b, 0)
	}
	return m.Response.AppendWire(b)
}

// ParseWire implements wire.Parser.
func (m *PutResult) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Error = s.Bytes()
	if s.More() {
		m.Response.ParseWire(r)
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *PutAllResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 1)
	b = wire.AppendArray(b, len(m.Results))
	for i := range m.Results {
		b = m.Results[i].AppendWire(b)
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *PutAllResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Results = parseList[PutResult](r, s.Array(), BatchMax)
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *ScanRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 6)
	b = wire.AppendUint(b, uint64(m.Partition))
	b = wire.AppendBytes(b, m.After)
	b = wire.AppendBytes(b, m.Prefix)
	b = wire.AppendUint(b, uint64(m.Limit))
	b = wire.AppendUint(b, uint64(m.R))
	return wire.AppendBool(b, m.KeysOnly)
}

// ParseWire implements wire.Parser.
func (m *ScanRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Partition = uint16(s.UintMax(1<<16 - 1))
	m.After = s.Bytes()
	m.Prefix = s.Bytes()
	m.Limit = int(s.UintMax(1 << 16))
	m.R = Level(s.UintMax(255))
	m.KeysOnly = s.Bool()
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *ScanItem) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 3)
	b = wire.AppendBytes(b, m.Key)
	b = wire.AppendBytes(b, m.Value)
	return wire.AppendUint(b, uint64(m.Siblings))
}

// ParseWire implements wire.Parser.
func (m *ScanItem) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Key = s.Bytes()
	m.Value = s.Bytes()
	m.Siblings = int(s.UintMax(1 << 20))
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *ScanResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 2)
	b = wire.AppendArray(b, len(m.Items))
	for i := range m.Items {
		b = m.Items[i].AppendWire(b)
	}
	return wire.AppendBytes(b, m.Next)
}

// ParseWire implements wire.Parser.
func (m *ScanResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Items = parseList[ScanItem](r, s.Array(), scanMax)
	m.Next = s.Bytes()
	return s.End()
}

// Bounds of lists, so that a list of empty messages, a byte each, doesn't become
// a hundred times its size in memory.
const (
	siblingsMax = 1 << 16
	scanMax     = 1 << 16
)

// parseList reads n messages, at most most. Growing by append keeps a false
// claim from allocating more than a small multiple of what was received.
func parseList[T any, P interface {
	*T
	wire.Parser
}](r *wire.Reader, n, most int) []T {
	if n > most {
		r.Fail()
		return nil
	}
	if n == 0 {
		return nil
	}
	out := make([]T, 0, min(n, 64))
	for range n {
		var item T
		if P(&item).ParseWire(r) != nil {
			return nil
		}
		out = append(out, item)
	}
	return out
}
