package ring

import (
	"encoding/binary"
	"math/bits"
)

// The first byte of an encoded record says how it is laid out: as ever, or with
// partitions that have different numbers of homes.
const (
	format       = 1
	formatUneven = 2
)

// noMember, plus what is Got, stands for a move's target where there is none.
const noMember = 0xff00

// wideIndex is the number of members from which on the table has two bytes for
// a home.
const wideIndex = 257

// Encode gives the record's one encoding: two records are the same if and only
// if their encodings are. The slice is the caller's.
//
//	format      1 byte
//	epoch       uvarint
//	cluster     16 bytes
//	name        uvarint length, bytes
//	Q, N        1 byte log2(Q), 1 byte
//	members     uvarint count, each: ID, name, zone, weight (2 bytes), state (1 byte)
//	keepers     1 byte count, each: index of the member (2 bytes)
//	banned      uvarint count, each: ID
//	since       runs that add up to Q: uvarint partitions, uvarint epochs ago
//	founded     1 byte, 0 or 1
//	table       Q*N indices of members, 1 byte each, or 2 from 257 members on
//	moves       uvarint count, each: partition (2 bytes), slot, index of To (2 bytes), phase
//	forced      only where the ring was: its section, see appendForced
//
// Numbers of fixed size have their high byte first. A move's From is the home
// that the table has.
//
// While the number of homes is changed the format is 2: N is followed by Before, 1
// byte, and the founded mark by runs that add up to Q: uvarint partitions, and how
// many homes each of them has (1 byte). In place of the index of To, a move that has none
// has 65,280 plus what is Got, and one without From has the slot behind the last.
func (r *Record) Encode() []byte {
	b := make([]byte, 0, 128+64*len(r.Members)+16*len(r.Banned)+2*len(r.table)+6*len(r.Moves))
	if r.Before == 0 {
		b = append(b, format)
	} else {
		b = append(b, formatUneven)
	}
	b = binary.AppendUvarint(b, r.Epoch)
	b = append(b, r.Cluster[:]...)
	b = appendText(b, r.Name)
	b = append(b, byte(bits.TrailingZeros(uint(r.Partitions))), byte(r.Replicas))
	if r.Before != 0 {
		b = append(b, byte(r.Before))
	}
	b = binary.AppendUvarint(b, uint64(len(r.Members)))
	for i := range r.Members {
		m := &r.Members[i]
		b = append(b, m.ID[:]...)
		b = appendText(b, m.Name)
		b = appendText(b, m.Zone)
		b = binary.BigEndian.AppendUint16(b, m.Weight)
		b = append(b, byte(m.State))
	}
	b = append(b, byte(len(r.Keepers)))
	for _, id := range r.Keepers {
		b = binary.BigEndian.AppendUint16(b, uint16(r.index(id)))
	}
	b = binary.AppendUvarint(b, uint64(len(r.Banned)))
	for i := range r.Banned {
		b = append(b, r.Banned[i][:]...)
	}
	b = r.appendSince(b)
	b = r.appendTable(b)
	b = binary.AppendUvarint(b, uint64(len(r.Moves)))
	for i := range r.Moves {
		m := &r.Moves[i]
		b = binary.BigEndian.AppendUint16(b, uint16(m.Partition))
		b = append(b, m.Slot)
		to := uint16(noMember | uint16(m.Got))
		if !m.Shrinks() {
			to = uint16(r.index(m.To))
		}
		b = binary.BigEndian.AppendUint16(b, to)
		b = append(b, byte(m.Phase))
	}
	return r.appendForced(b)
}

// Behind the moves stand sections that most records do not have, each begun by its
// number, in rising order. Records without them are encoded as they were before there
// were sections; who does not know one refuses the record.
const sectionForced = 1

// appendForced writes the section of what was forced: uvarint count, each:
//
//	epoch, base uvarint
//	digest      32 bytes
//	time        uvarint
//	by          ID
//	who         uvarint length, bytes
//	survivors   uvarint count, each: ID
//	apart       uvarint count, each: ID
func (r *Record) appendForced(b []byte) []byte {
	if len(r.Forced) == 0 {
		return b
	}
	b = binary.AppendUvarint(append(b, sectionForced), uint64(len(r.Forced)))
	for i := range r.Forced {
		f := &r.Forced[i]
		b = binary.AppendUvarint(b, f.Epoch)
		b = binary.AppendUvarint(b, f.Base)
		b = append(b, f.Digest[:]...)
		b = binary.AppendUvarint(b, f.Time)
		b = append(b, f.By[:]...)
		b = appendText(b, f.Who)
		for _, list := range [][]NodeID{f.Survivors, f.Apart} {
			b = binary.AppendUvarint(b, uint64(len(list)))
			for i := range list {
				b = append(b, list[i][:]...)
			}
		}
	}
	return b
}

func (r *Record) appendSince(b []byte) []byte {
	for p := 0; p < len(r.Since); {
		end := p + 1
		for end < len(r.Since) && r.Since[end] == r.Since[p] {
			end++
		}
		b = binary.AppendUvarint(b, uint64(end-p))
		b = binary.AppendUvarint(b, r.Epoch-r.Since[p])
		p = end
	}
	return b
}

func (r *Record) appendTable(b []byte) []byte {
	if !r.Founded() {
		return append(b, 0)
	}
	b = append(b, 1)
	if r.Before != 0 {
		b = r.appendWidths(b)
	}
	wide := len(r.Members) >= wideIndex
	for _, home := range r.table {
		if wide {
			b = append(b, byte(home>>8))
		}
		b = append(b, byte(home))
	}
	return b
}

// appendWidths says how many homes each partition has.
func (r *Record) appendWidths(b []byte) []byte {
	for p := 0; p < r.Partitions; {
		width, end := r.width(p), p+1
		for end < r.Partitions && r.width(end) == width {
			end++
		}
		b = binary.AppendUvarint(b, uint64(end-p))
		b = append(b, byte(width))
		p = end
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
