package ring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed says that bytes are no encoded record.
var ErrMalformed = errors.New("malformed ring record")

// memberMin is the least that an encoded member takes, in bytes.
const memberMin = 16 + 1 + 1 + 2 + 1

// Decode reads what Encode wrote and validates it whole. It takes no other
// encoding of a record, and allocates no more than a small multiple of what it
// is given. The record shares no memory with b. Errors wrap ErrMalformed.
func Decode(b []byte) (*Record, error) {
	if len(b) > EncodedMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(b), EncodedMax)
	}
	d := decoder{b: b}
	r := d.record()
	if d.what != "" {
		return nil, fmt.Errorf("%w: bad %s", ErrMalformed, d.what)
	}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(r.Encode(), b) {
		return nil, fmt.Errorf("%w: not the canonical encoding", ErrMalformed)
	}
	r.sealAs(b)
	return r, nil
}

// decoder reads from b. After the first mistake it reads zeros, and what names
// the field.
type decoder struct {
	b    []byte
	what string
}

func (d *decoder) fail(what string) {
	if d.what == "" {
		d.what, d.b = what, nil
	}
}

func (d *decoder) take(n int, what string) []byte {
	if n > len(d.b) {
		d.fail(what)
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) byte(what string) byte {
	if b := d.take(1, what); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint16(what string) uint16 {
	if b := d.take(2, what); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uvarint(what string) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail(what)
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads how many items of at least size bytes follow, at most limit.
func (d *decoder) count(limit, size int, what string) int {
	n := d.uvarint(what)
	if n > uint64(limit) || n > uint64(len(d.b)/size) {
		d.fail(what)
		return 0
	}
	return int(n)
}

func (d *decoder) text(what string) string {
	return string(d.take(d.count(NameMax, 1, what), what))
}

func (d *decoder) record() *Record {
	r := &Record{}
	layout := d.byte("format")
	if layout != format && layout != formatUneven {
		d.fail(fmt.Sprintf("format %d: this program knows up to %d: use the program that wrote it, or a newer one", layout, formatUneven))
	}
	r.Epoch = d.uvarint("epoch")
	copy(r.Cluster[:], d.take(len(r.Cluster), "cluster ID"))
	r.Name = d.text("cluster name")
	power := d.byte("number of partitions")
	if 1<<(power&31) > SlotCount || power > 31 {
		d.fail("number of partitions")
		return r
	}
	r.Partitions = 1 << power
	r.Replicas = int(d.byte("number of replicas"))
	if layout == formatUneven {
		if r.Before = int(d.byte("number of replicas before")); r.Before == 0 {
			d.fail("number of replicas before")
		}
	}
	if err := r.validateShape(); d.what == "" && err != nil {
		d.fail(err.Error())
	}
	if d.what != "" {
		return r
	}
	d.members(r)
	d.keepers(r)
	d.banned(r)
	d.since(r)
	d.table(r)
	d.moves(r)
	if len(d.b) > 0 && d.b[0] == sectionForced {
		d.b = d.b[1:]
		d.forced(r)
	}
	if len(d.b) > 0 {
		d.fail("end: bytes are left over")
	}
	return r
}

func (d *decoder) members(r *Record) {
	n := d.count(MembersMax, memberMin, "number of members")
	r.Members = make([]Member, n)
	for i := range r.Members {
		m := &r.Members[i]
		copy(m.ID[:], d.take(len(m.ID), "member ID"))
		m.Name = d.text("member name")
		m.Zone = d.text("member zone")
		m.Weight = d.uint16("member weight")
		m.State = MemberState(d.byte("member state"))
	}
}

// member reads the index of a member and gives its ID.
func (d *decoder) member(r *Record, what string) NodeID {
	i := int(d.uint16(what))
	if i >= len(r.Members) {
		d.fail(what)
		return NodeID{}
	}
	return r.Members[i].ID
}

func (d *decoder) keepers(r *Record) {
	n := int(d.byte("number of keepers"))
	if n > KeepersMax {
		d.fail("number of keepers")
		return
	}
	for range n {
		r.Keepers = append(r.Keepers, d.member(r, "keeper"))
	}
}

func (d *decoder) banned(r *Record) { r.Banned = d.ids(BannedMax, "banned IDs") }

// ids reads a list of at most limit IDs; nil for an empty one.
func (d *decoder) ids(limit int, what string) []NodeID {
	n := d.count(limit, len(NodeID{}), "number of "+what)
	if n == 0 {
		return nil
	}
	ids := make([]NodeID, n)
	for i := range ids {
		copy(ids[i][:], d.take(len(NodeID{}), what))
	}
	return ids
}

// forcedMin is the least that one forced epoch takes, in bytes.
const forcedMin = 1 + 1 + 32 + 1 + 16 + 1 + 1 + 1

func (d *decoder) forced(r *Record) {
	n := d.count(ForcedMax, forcedMin, "number of forced epochs")
	if n == 0 {
		d.fail("number of forced epochs")
		return
	}
	r.Forced = make([]Forced, n)
	for i := range r.Forced {
		f := &r.Forced[i]
		f.Epoch = d.uvarint("forced epoch")
		f.Base = d.uvarint("base of a forced epoch")
		copy(f.Digest[:], d.take(len(f.Digest), "digest of a forced epoch's base"))
		f.Time = d.uvarint("time of a forced epoch")
		copy(f.By[:], d.take(len(f.By), "who forced an epoch"))
		f.Who = d.text("who forced an epoch")
		f.Survivors = d.ids(MembersMax, "survivors")
		f.Apart = d.ids(MembersMax, "members apart")
	}
}

func (d *decoder) since(r *Record) {
	if d.what != "" {
		return
	}
	// A run takes two bytes and may stand for all partitions: what is
	// allocated is bounded by SlotCount alone.
	r.Since = make([]uint64, 0, r.Partitions)
	for len(r.Since) < r.Partitions && d.what == "" {
		run := d.uvarint("run of fences")
		ago := d.uvarint("fence")
		if run == 0 || run > uint64(r.Partitions-len(r.Since)) || ago >= r.Epoch {
			d.fail("run of fences")
			return
		}
		for range run {
			r.Since = append(r.Since, r.Epoch-ago)
		}
	}
}

func (d *decoder) table(r *Record) {
	switch d.byte("founded mark") {
	case 0:
		return
	case 1:
	default:
		d.fail("founded mark")
	}
	slots := r.Partitions * r.Replicas
	if r.Before != 0 {
		if r.starts = d.widths(r); r.starts == nil {
			return
		}
		slots = int(r.starts[r.Partitions])
	}
	wide := len(r.Members) >= wideIndex
	size := slots
	if wide {
		size *= 2
	}
	b := d.take(size, "table")
	if b == nil {
		return
	}
	r.table = make([]uint16, slots)
	for i := range r.table {
		if wide {
			r.table[i] = binary.BigEndian.Uint16(b[2*i:])
		} else {
			r.table[i] = uint16(b[i])
		}
		if int(r.table[i]) >= len(r.Members) {
			d.fail("table: no such member")
			return
		}
	}
}

// widths reads how many homes the partitions have, as the places where they begin; nil
// after a mistake.
func (d *decoder) widths(r *Record) []int32 {
	if d.what != "" {
		return nil
	}
	starts := make([]int32, 1, r.Partitions+1)
	for len(starts) <= r.Partitions {
		run := d.uvarint("run of numbers of homes")
		width := int32(d.byte("number of homes"))
		if d.what != "" || run == 0 || run > uint64(r.Partitions+1-len(starts)) || width < 1 || width > ReplicasMax {
			d.fail("run of numbers of homes")
			return nil
		}
		for range run {
			starts = append(starts, starts[len(starts)-1]+width)
		}
	}
	return starts
}

func (d *decoder) moves(r *Record) {
	n := d.count(r.Partitions, 6, "number of moves")
	if n == 0 {
		return
	}
	if len(r.table) == 0 {
		d.fail("moves: there is no table")
		return
	}
	r.Moves = make([]Move, n)
	for i := range r.Moves {
		m := &r.Moves[i]
		m.Partition = Partition(d.uint16("partition of a move"))
		m.Slot = d.byte("slot of a move")
		m.To, m.Got = d.target(r)
		m.Phase = Phase(d.byte("phase of a move"))
		if d.what != "" {
			return
		}
		if int(m.Partition) >= r.Partitions {
			d.fail("partition of a move")
			return
		}
		row := r.row(int(m.Partition))
		switch slot := int(m.Slot); {
		case slot < len(row):
			m.From = r.Members[row[slot]].ID
		case slot > len(row) || r.Before == 0:
			d.fail("slot of a move")
			return
		}
	}
}

// target reads to whom a move goes; zero, and who has got what there was, where a slot is
// taken away.
func (d *decoder) target(r *Record) (to NodeID, got uint8) {
	if r.Before != 0 && len(d.b) >= 2 && d.b[0] == noMember>>8 {
		return NodeID{}, d.take(2, "target of a move")[1]
	}
	return d.member(r, "target of a move"), 0
}
