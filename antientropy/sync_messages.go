package antientropy

import (
	"bytes"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// syncRoute asks a home or a target of a partition for what it holds, for a move. It
// is also a fence: see serveSync.
const syncRoute rpc.Route[syncRequest, syncResponse] = "ae.sync"

// syncRequest begins a pull, or asks for a page of it.
type syncRequest struct {
	// Epoch is the partition's fence by the asker's ring record.
	Epoch     uint64
	Partition ring.Partition
	// Era is that of the answer that began the pull: in another one the answerer
	// may have lost something. 0 begins, and then what follows is empty.
	Era uint64
	// Want are the dots to send the records of, in at most as many ranges as a
	// clock has. None stands for all records.
	Want store.DotSet
	// Have is the asker's clock. What a record shows that it claims needs not be
	// sent, where the answerer does not know the keys of Want.
	Have store.Clock
	// After is the last key that the answers came to.
	After []byte
}

// syncResponse is the beginning of a pull, or a page, in the order of the keys.
type syncResponse struct {
	Era uint64
	// Clock is what the answerer had incorporated when it began, and Ends the
	// closed actors: who takes over its claims must know of them before. Of is
	// about how many keys it holds. A page has none of these.
	Clock store.Clock
	Ends  []store.Ending
	Of    uint64

	Items []item
	// Next is the After of the next page, unless Done.
	Next []byte
	Done bool
	// Scanned says that all records were looked at, wanted or not.
	Scanned bool
	// Hidden is that of pullResponse.
	Hidden []wantedKey
}

// AppendWire implements wire.Appender.
func (m *syncRequest) AppendWire(b []byte) []byte {
	return appendWanting(b, (*wanting)(m))
}

// ParseWire implements wire.Parser.
func (m *syncRequest) ParseWire(r *wire.Reader) error {
	return wantingOf(r, (*wanting)(m))
}

// AppendWire implements wire.Appender.
func (m *syncResponse) AppendWire(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 9), m.Era)
	b = wire.AppendBytes(b, m.Clock.Append(nil))
	b = wire.AppendArray(b, len(m.Ends))
	for i := range m.Ends {
		b = wire.AppendBytes(b, m.Ends[i].Append(nil))
	}
	b = wire.AppendUint(b, m.Of)
	return appendPage(b, &wirePage{m.Items, m.Next, m.Done, m.Scanned, m.Hidden})
}

// ParseWire implements wire.Parser. Records are not checked, but for their keys.
func (m *syncResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Era = s.Uint()
	if s.More() {
		m.Clock = clockOf(r)
	}
	n := s.Array()
	if n > store.ClockActorsMax {
		return wire.ErrMalformed
	}
	for i := range n {
		e := endingOf(r)
		if !e.Closed || i > 0 && e.Actor <= m.Ends[i-1].Actor {
			r.Fail()
		}
		if r.Err() != nil {
			return r.Err()
		}
		m.Ends = append(m.Ends, e)
	}
	m.Of = s.Uint()
	got, err := parsePage(r, &s)
	if err != nil {
		return err
	}
	m.Items, m.Next, m.Done, m.Scanned, m.Hidden = got.Items, got.Next, got.Done, got.Scanned, got.Hidden
	return s.End()
}

// check says whether a page goes on behind a key, and has nothing before it.
func (m *syncResponse) check(after []byte) error {
	if !m.Done && bytes.Compare(m.Next, after) <= 0 {
		return wire.ErrMalformed
	}
	if len(m.Items) > 0 && after != nil && bytes.Compare(m.Items[0].key, after) <= 0 {
		return wire.ErrMalformed
	}
	return nil
}

// appendItems writes records, or keys that have none.
func appendItems(b []byte, items []item) []byte {
	b = wire.AppendArray(b, 2*len(items))
	for i := range items {
		it := &items[i]
		if it.encoded != nil {
			b = wire.AppendBytes(b, nil) // the record has the key
		} else {
			b = wire.AppendBytes(b, it.key)
		}
		b = wire.AppendBytes(b, it.encoded)
	}
	return b
}

// itemsOf reads what appendItems wrote. The keys must be in order.
func itemsOf(r *wire.Reader, n int) ([]item, error) {
	if n > 2*pullItemsMax || n%2 != 0 {
		return nil, wire.ErrMalformed
	}
	var items []item
	for i := range n / 2 {
		it := item{key: r.Bytes(), encoded: r.Bytes()}
		if it.encoded != nil && it.key == nil {
			it.key = version.KeyOf(it.encoded)
		} else if it.encoded != nil {
			return nil, wire.ErrMalformed
		}
		if len(it.key) == 0 || len(it.key) > version.KeySizeMax || i > 0 && bytes.Compare(it.key, items[i-1].key) <= 0 {
			return nil, wire.ErrMalformed
		}
		items = append(items, it)
	}
	return items, nil
}

// appendWanted writes dots by key.
func appendWanted(b []byte, keys []wantedKey) []byte {
	b = wire.AppendArray(b, 2*len(keys))
	for i := range keys {
		b = wire.AppendBytes(b, keys[i].Key)
		b = appendDots(b, keys[i].Dots)
	}
	return b
}

// wantedOf reads what appendWanted wrote.
func wantedOf(r *wire.Reader, n int) ([]wantedKey, error) {
	if n > 2*pullItemsMax || n%2 != 0 {
		return nil, wire.ErrMalformed
	}
	var out []wantedKey
	for range n / 2 {
		out = append(out, wantedKey{oneKey(r), dots(r, dotsMax)})
	}
	return out, nil
}
