package antientropy

import (
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
)

// endRoute asks a member what it holds of actors that are to be closed.
const endRoute rpc.Route[endRequest, endResponse] = "ae.end"

// endsMax is the most actors of one question.
const endsMax = 256

// endRequest fences actors of a partition, unless it only looks.
type endRequest struct {
	// Epoch of the ring record that says who is asked.
	Epoch     uint64
	Partition ring.Partition
	// Look asks without a fence: what is answered may change at once.
	Look bool
	// Ends are the actors, sorted, none of them closed. Their dots are those that
	// fenced members are known to hold: they are to be taken.
	Ends []store.Ending
}

// endResponse is sent when the fence is on disk, and all that was merged before it.
type endResponse struct {
	// Epoch of the answering member's ring record.
	Epoch uint64
	// Word says whether Ends can be relied on.
	Word endWord
	// Ends have an answer for each actor, in their order.
	Ends []endAnswer
}

// endAnswer is what a member says of one actor.
type endAnswer struct {
	// Minting says that the member writes with it.
	Minting bool
	// End has its final dots if it is closed here; else those that this member
	// holds: by its clock, its records, and what it keeps for homes.
	End store.Ending
	// Known are dots that it takes, as fenced members held them.
	Known []store.Range
}

// endWord is a member's answer in one word.
type endWord uint8

// The words. Their numbers are on the wire.
const (
	endWhole    endWord = 0
	endLossy    endWord = 1 // it has lost something
	endCounting endWord = 2 // it has not read all of its records since it was started
	endWords            = 3
)

// partitionEnds are the closed actors of a partition.
type partitionEnds struct {
	Partition ring.Partition
	Ends      []store.Ending
}

// AppendWire implements wire.Appender.
func (m *endRequest) AppendWire(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 4), m.Epoch)
	b = wire.AppendUint(b, uint64(m.Partition))
	b = wire.AppendBool(b, m.Look)
	b = wire.AppendArray(b, len(m.Ends))
	for i := range m.Ends {
		b = wire.AppendBytes(b, m.Ends[i].Append(nil))
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *endRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Epoch = s.Uint()
	m.Partition = partitionOf(&s)
	m.Look = s.Bool()
	n := s.Array()
	if n > endsMax {
		return wire.ErrMalformed
	}
	for i := range n {
		e := endingOf(r)
		if e.Closed || i > 0 && e.Actor <= m.Ends[i-1].Actor {
			r.Fail()
		}
		if r.Err() != nil {
			return r.Err()
		}
		m.Ends = append(m.Ends, e)
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *endResponse) AppendWire(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 3), m.Epoch)
	b = wire.AppendUint(b, uint64(m.Word))
	b = wire.AppendArray(b, 3*len(m.Ends))
	for i := range m.Ends {
		e := &m.Ends[i]
		known := store.Ending{Actor: e.End.Actor, Dots: e.Known}
		b = wire.AppendBool(b, e.Minting)
		b = wire.AppendBytes(b, e.End.Append(nil))
		b = wire.AppendBytes(b, known.Append(nil))
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *endResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Epoch = s.Uint()
	m.Word = endWord(s.UintMax(endWords - 1))
	n := s.Array()
	if n > 3*endsMax || n%3 != 0 {
		return wire.ErrMalformed
	}
	for range n / 3 {
		e := endAnswer{Minting: r.Bool(), End: endingOf(r)}
		known := endingOf(r)
		if known.Closed || known.Actor != e.End.Actor {
			r.Fail()
		}
		e.Known = known.Dots
		m.Ends = append(m.Ends, e)
	}
	return s.End()
}

// endingOf reads an ending as an item.
func endingOf(r *wire.Reader) store.Ending {
	b := r.Bytes()
	if r.Err() != nil {
		return store.Ending{}
	}
	e, err := store.ParseEnding(b)
	if err != nil {
		r.Fail()
	}
	return e
}

// appendEnds writes closed actors by partition.
func appendEnds(b []byte, all []partitionEnds) []byte {
	b = wire.AppendArray(b, 2*len(all))
	for i := range all {
		b = wire.AppendUint(b, uint64(all[i].Partition))
		b = wire.AppendArray(b, len(all[i].Ends))
		for j := range all[i].Ends {
			b = wire.AppendBytes(b, all[i].Ends[j].Append(nil))
		}
	}
	return b
}

// endsOf reads what appendEnds wrote.
func endsOf(r *wire.Reader, n int) []partitionEnds {
	if n > 2*ring.SlotCount || n%2 != 0 {
		r.Fail()
		return nil
	}
	var out []partitionEnds
	for i := range n / 2 {
		q := partitionEnds{Partition: ring.Partition(r.UintMax(ring.SlotCount - 1))}
		if i > 0 && q.Partition <= out[i-1].Partition {
			r.Fail()
		}
		m := r.Array()
		if m > store.ClockActorsMax {
			r.Fail()
		}
		for j := range m {
			if r.Err() != nil {
				return nil
			}
			e := endingOf(r)
			if !e.Closed || j > 0 && e.Actor <= q.Ends[j-1].Actor {
				r.Fail()
			}
			q.Ends = append(q.Ends, e)
		}
		if r.Err() != nil {
			return nil
		}
		out = append(out, q)
	}
	return out
}
