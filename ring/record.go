package ring

import (
	"crypto/sha256"
	"slices"
)

// Bounds of a record. A record outside them is invalid.
const (
	// PartitionsDefault is how many partitions a cluster has that states no
	// other number. Any power of two up to SlotCount will do; it is fixed
	// when the cluster is founded.
	PartitionsDefault = 1024
	// ReplicasDefault is how many homes a partition has by default.
	ReplicasDefault = 3
	// ReplicasMax is the most homes of a partition.
	ReplicasMax = 7
	// KeepersMax is the most keepers of a record.
	KeepersMax = 7
	// MembersMax is the most members of a record.
	MembersMax = 1000
	// BannedMax is the most removed members that a record remembers.
	BannedMax = 16384
	// NameMax is the longest name of a cluster, member or zone, in bytes.
	NameMax = 64
	// EncodedMax is the longest encoded record, in bytes.
	EncodedMax = 2 << 20
)

// Record is the ring record: who the members are and which of them are homes of
// which partition.
//
// A record that one of this package's functions returned is valid and never
// changes; it may be shared by goroutines. Nobody changes its fields.
type Record struct {
	// Epoch is 1 at the founding and one more with every change.
	Epoch   uint64
	Cluster ClusterID
	// Name is the cluster's, for people and to tell clusters apart before
	// they are joined.
	Name string
	// Partitions is Q, a power of two, the same for the cluster's life.
	Partitions int
	// Replicas is N, how many homes each partition has, or is to have: see Before.
	Replicas int
	// Before is N from before a change of it that is not done yet, to which an
	// abort goes back; 0 while every partition has N homes and none is about to
	// have another number. Until then partitions have more or fewer.
	Before int
	// Keepers hold the registers in which the next record is decided. They
	// are members, sorted by ID.
	Keepers []NodeID
	// Members are sorted by ID.
	Members []Member
	// Banned are the IDs of removed members, sorted. They never come back. One of
	// them that is Lost is a member until it has no slots any more.
	Banned []NodeID
	// Since has, for each partition, the epoch at which its homes or the
	// phase of its move last changed, or one of its homes was Lost. It is
	// the partition's fence. A move that is only queued changes nothing.
	Since []uint64
	// Moves are sorted by partition, at most one each.
	Moves []Move
	// Forced are the times that the ring was changed without a majority of its
	// keepers, oldest first; at most ForcedMax.
	Forced []Forced

	table  []uint16 // homes by partition and slot, as indices in Members; empty until founded
	starts []int32  // where each partition's homes begin in table, and its end; nil while all have Replicas
	homes  []NodeID // the same as IDs
	counts []int    // by index in Members
	digest [sha256.Size]byte
}

// seal completes a record whose fields and table will not change any more.
func (r *Record) seal() { r.sealAs(r.Encode()) }

// sealAs is seal of a record of which the encoding is known.
func (r *Record) sealAs(encoded []byte) {
	r.homes = make([]NodeID, len(r.table))
	r.counts = make([]int, len(r.Members))
	for i, m := range r.table {
		r.homes[i] = r.Members[m].ID
		r.counts[m]++
	}
	r.digest = sha256.Sum256(encoded)
}

// successor is an unsealed copy with the next epoch. Its slices are its own.
func (r *Record) successor() *Record {
	return &Record{
		Epoch: r.Epoch + 1, Cluster: r.Cluster, Name: r.Name,
		Partitions: r.Partitions, Replicas: r.Replicas, Before: r.Before, starts: r.starts,
		Keepers: slices.Clone(r.Keepers), Members: slices.Clone(r.Members), Banned: slices.Clone(r.Banned),
		Since: slices.Clone(r.Since), Moves: slices.Clone(r.Moves), Forced: slices.Clone(r.Forced), table: slices.Clone(r.table),
	}
}

// Founded says that the record has a table: every partition has its homes. A
// record without one serves no keys.
func (r *Record) Founded() bool { return len(r.table) > 0 }

// PartitionOf gives the partition of a key.
func (r *Record) PartitionOf(key []byte) Partition {
	return Partition(int(SlotOf(key)) * r.Partitions / SlotCount)
}

// Homes are the partition's homes by slot; nil before the founding and for a
// partition that does not exist. The slice is shared: do not change it.
func (r *Record) Homes(p Partition) []NodeID {
	if int(p) >= r.Partitions || len(r.homes) == 0 {
		return nil
	}
	from, to := r.span(int(p))
	return r.homes[from:to:to]
}

// HomeIndex is the member's slot among the partition's homes; -1 if it is none.
func (r *Record) HomeIndex(p Partition, id NodeID) int {
	return slices.Index(r.Homes(p), id)
}

// Member finds a member by its ID; nil if there is none. It is shared: do not
// change it.
func (r *Record) Member(id NodeID) *Member {
	if i := r.index(id); i >= 0 {
		return &r.Members[i]
	}
	return nil
}

// HomeCount is the number of table slots that the member holds.
func (r *Record) HomeCount(id NodeID) int {
	if i := r.index(id); i >= 0 {
		return r.counts[i]
	}
	return 0
}

// IsKeeper says that the member is a keeper of this record.
func (r *Record) IsKeeper(id NodeID) bool { return slices.Contains(r.Keepers, id) }

// IsBanned says that the ID was removed from the cluster and may not come back.
func (r *Record) IsBanned(id NodeID) bool {
	_, found := slices.BinarySearchFunc(r.Banned, id, NodeID.Compare)
	return found
}

// MoveOf is the move of the partition that is under way; nil if there is none.
// It is shared: do not change it.
func (r *Record) MoveOf(p Partition) *Move {
	i, found := r.moveAt(p)
	if !found {
		return nil
	}
	return &r.Moves[i]
}

// moveAt finds the partition's move in Moves, or the place where it would be. Every
// request asks this: it copies no move.
func (r *Record) moveAt(p Partition) (int, bool) {
	low, high := 0, len(r.Moves)
	for low < high {
		mid := int(uint(low+high) / 2)
		if r.Moves[mid].Partition < p {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, low < len(r.Moves) && r.Moves[low].Partition == p
}

// Digest is the SHA-256 of the encoded record. Two records are the same if and
// only if their digests are.
func (r *Record) Digest() [sha256.Size]byte { return r.digest }

// index is the member's place in Members, or -1. All that is read off a record asks
// this: it copies no member.
func (r *Record) index(id NodeID) int {
	low, high := 0, len(r.Members)
	for low < high {
		mid := int(uint(low+high) / 2)
		switch c := r.Members[mid].ID.Compare(id); {
		case c == 0:
			return mid
		case c < 0:
			low = mid + 1
		default:
			high = mid
		}
	}
	return -1
}
