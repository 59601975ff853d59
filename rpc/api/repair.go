package api

// InspectRequest asks for everything that is known of one key.
type InspectRequest struct {
	Key []byte // 1 to 4,096 bytes
	// Local asks for the copy of the node itself, home or not, and for what
	// it keeps for homes.
	Local bool
	// Dots, with Local, are those that the node shall say of whether its
	// clock claims them; none stands for those of its own copy.
	Dots []DotInfo
}

// InspectResponse is what each home holds of a key. Its JSON is part of the
// contract of `kith inspect --format json`.
type InspectResponse struct {
	Key       []byte `json:"-"`
	Partition uint16 `json:"partition"` // of the key
	Slot      uint16 `json:"slot"`      // of the key: its hash, as Redis Cluster's
	Epoch     uint64 `json:"epoch"`     // of the ring record that named the homes
	// Copies are those of the homes, in the order of their slots; behind them
	// those kept by stand-ins.
	Copies []CopyInfo `json:"copies"`
	// Equal says that all homes answered, and with the same siblings.
	Equal bool `json:"equal"`
	// Why are sentences: what differs, and what will mend it.
	Why []string `json:"why"`
}

// CopyInfo is one home's copy, or why there is none to see.
type CopyInfo struct {
	Member string `json:"member"` // ID
	Name   string `json:"name"`
	// StandsInFor is the ID of the home that this copy is kept for; empty for
	// a home's own copy.
	StandsInFor string `json:"stands_in_for,omitempty"`
	// Error says why the copy could not be read.
	Error string `json:"error,omitempty"`
	// Found is false for a key of which this home has no record.
	Found bool `json:"found"`
	// Digest is the leaf of the copy, in hexadecimal: equal digests are equal
	// siblings.
	Digest string `json:"digest,omitempty"`
	// Seen is the copy's context.
	Seen     []DotInfo     `json:"seen"`
	Siblings []SiblingInfo `json:"siblings"`
	// Incorporated says, for each dot of a sibling that any copy holds, in
	// their order over all copies, whether this home's clock claims it.
	Incorporated []DotInfo `json:"incorporated"`
	// CountsForRead is false while the home may lack acknowledged writes.
	CountsForRead bool `json:"counts_for_read"`
}

// DotInfo names a write.
type DotInfo struct {
	Actor string `json:"actor"` // 16 hexadecimal digits
	Seq   uint64 `json:"seq"`
}

// SiblingInfo is one sibling without its value.
type SiblingInfo struct {
	DotInfo
	Tombstone bool `json:"tombstone"` // it is a delete
	// Stamp is the hybrid logical time; Written its wall-clock part, and
	// Expiry when the value stops to be readable, both in milliseconds since
	// 1970; 0 is never.
	Stamp   uint64 `json:"stamp"`
	Written int64  `json:"written"`
	Expiry  uint64 `json:"expiry"`
	Expired bool   `json:"expired"`
	Size    uint32 `json:"size"`
	Digest  string `json:"value_digest,omitempty"`
}

// AllPartitions stands for all partitions in a RepairRequest.
const AllPartitions = -1

// RepairRequest starts an audit on the node that is asked, or asks for one.
type RepairRequest struct {
	// Start an audit of the partition, or of all that the node is a home of.
	// One that is under way already is joined.
	Start     bool
	Partition int
}

// RepairResponse is how far the node's audit is; it is that of the latest one if
// none runs. Its JSON is part of the contract of `kith repair --format json`.
type RepairResponse struct {
	Running bool `json:"running"` // it goes on; else it has ended, or there was none
	// Partitions to audit, with every other home of each; Done of them are.
	Partitions int `json:"partitions"`
	Done       int `json:"done"`
	// Skipped partitions could not be audited with every other home.
	Skipped int `json:"skipped"`
	// Differences are keys whose copies differed, Pulled and Pushed the
	// records that were merged here and there, Bytes all of them together.
	Differences int64 `json:"differences"`
	Pulled      int64 `json:"pulled"`
	Pushed      int64 `json:"pushed"`
	Bytes       int64 `json:"bytes"`
	// Anomalies are differences that catch-up should have mended, as
	// sentences, at most 100.
	Anomalies []string `json:"anomalies"`
	// Problems say why partitions were skipped, at most 100.
	Problems []string `json:"problems"`
	// Millis is how long it took, or has taken so far.
	Millis int64 `json:"millis"`
}

// RepairStatus is a member's own view of its copies.
type RepairStatus struct {
	// Homes is how many partitions it is a home of. Behind of them have not
	// been compared with every reachable home since the start, or lack writes
	// that another home has; Lossy of them have lost something and are being
	// filled again.
	Homes  int `json:"homes"`
	Behind int `json:"behind"`
	Lossy  int `json:"lossy"`
	// Pulled counts records and bytes fetched from other homes since the
	// start, Missing the writes that are known to be lacking now, and ETA
	// estimates in seconds until they are there; negative is unknown.
	PulledKeys  int64   `json:"pulled_keys"`
	PulledBytes int64   `json:"pulled_bytes"`
	Missing     int64   `json:"missing"`
	ETA         float64 `json:"eta"`
	// Audited counts audits of a partition with one home since the start,
	// Differences the keys that they mended, Anomalies those that catch-up
	// should have; LastAnomaly is a sentence about the latest.
	Audited     int64  `json:"audited"`
	Differences int64  `json:"differences"`
	Anomalies   int64  `json:"anomalies"`
	LastAnomaly string `json:"last_anomaly,omitempty"`
	// StandIns are records kept for other homes.
	StandIns     int64 `json:"stand_ins"`
	StandInBytes int64 `json:"stand_in_bytes"`
	// Tombstones are waiting to be forgotten, as far as this member has
	// looked; Forgotten were, since the start. Blocked says what they wait
	// for, naming the members that cause it.
	Tombstones int64    `json:"tombstones"`
	Forgotten  int64    `json:"forgotten"`
	Blocked    []string `json:"blocked,omitempty"`
	// Closing is in how many partitions writes that a crash took with it are to be
	// declared void, as far as this member is to do that; Closed counts the actors
	// for which that was done, since the start.
	Closing int64 `json:"closing"`
	Closed  int64 `json:"closed"`
	// Scrubbed counts the records that the scrub has read since the start,
	// Rotten those that it found damaged.
	Scrubbed int64 `json:"scrubbed"`
	Rotten   int64 `json:"rotten"`
	// Scans counts what another home had to look for in a whole partition since
	// the start, because its log of writes does not reach back that far.
	Scans int64 `json:"scans"`
	// HandingOver is how many partitions it has given up, and keeps until it knows
	// what their homes have of them.
	HandingOver int `json:"handing_over,omitempty"`
}
