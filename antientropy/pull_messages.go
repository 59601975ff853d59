package antientropy

import (
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// pullRoute asks a home for what it has incorporated and the asker has not.
const pullRoute rpc.Route[pullRequest, pullResponse] = "ae.pull"

// pullItemsMax is the most records of one answer.
const pullItemsMax = 4096

// pullRequest asks for the records of some dots, page by page.
type pullRequest struct {
	// Epoch of the ring record by which both are homes.
	Epoch     uint64
	Partition ring.Partition
	// Era of the clock that claims the dots: in another one the answerer may
	// have lost what it claimed.
	Era uint64
	// Want are the dots, in at most as many ranges as a clock has.
	Want store.DotSet
	// Have is the asker's clock. Where the dot log has forgotten which keys the
	// dots were written to, all that Have lacks is sent.
	Have store.Clock
	// After is the last key that the answers came to.
	After []byte
}

// pullResponse is a page of records, in the order of their keys.
type pullResponse struct {
	// Verdict says that the answerer knows what became of all that Base covers,
	// which was read before the records.
	Verdict bool
	Base    version.Context
	Items   []item
	// Next is the After of the next page, unless Done.
	Next []byte
	Done bool
	// Scanned says that the dot log did not know all dots.
	Scanned bool
	// Hidden are those of the wanted dots which the answerer claims, and which
	// the records of their keys neither hold nor have seen. They were forgotten,
	// or lost.
	Hidden []wantedKey
}

// AppendWire implements wire.Appender.
func (m *pullRequest) AppendWire(b []byte) []byte {
	return appendWanting(b, (*wanting)(m))
}

// ParseWire implements wire.Parser.
func (m *pullRequest) ParseWire(r *wire.Reader) error {
	return wantingOf(r, (*wanting)(m))
}

// wanting is what the requests for pages have in common, in this order.
type wanting struct {
	Epoch     uint64
	Partition ring.Partition
	Era       uint64
	Want      store.DotSet
	Have      store.Clock
	After     []byte
}

func appendWanting(b []byte, m *wanting) []byte {
	want := clockOfDots(m.Want)
	b = wire.AppendArray(b, 6)
	b = wire.AppendUint(b, m.Epoch)
	b = wire.AppendUint(b, uint64(m.Partition))
	b = wire.AppendUint(b, m.Era)
	b = wire.AppendBytes(b, want.Append(nil))
	b = wire.AppendBytes(b, m.Have.Append(nil))
	return wire.AppendBytes(b, m.After)
}

// wantingOf reads what appendWanting wrote.
func wantingOf(r *wire.Reader, m *wanting) error {
	s := r.Struct()
	m.Epoch = s.Uint()
	m.Partition = partitionOf(&s)
	m.Era = s.Uint()
	if s.More() {
		want := clockOf(r)
		m.Want = dotsOfClock(&want)
	}
	if s.More() {
		m.Have = clockOf(r)
	}
	if m.After = s.Bytes(); len(m.After) > version.KeySizeMax {
		return wire.ErrMalformed
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *pullResponse) AppendWire(b []byte) []byte {
	b = wire.AppendBool(wire.AppendArray(b, 7), m.Verdict)
	b = appendDots(b, m.Base)
	return appendPage(b, &wirePage{m.Items, m.Next, m.Done, m.Scanned, m.Hidden})
}

// ParseWire implements wire.Parser. Records are not checked, but for their keys.
func (m *pullResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Verdict = s.Bool()
	if s.More() {
		m.Base = contextOf(r)
	}
	got, err := parsePage(r, &s)
	if err != nil {
		return err
	}
	m.Items, m.Next, m.Done, m.Scanned, m.Hidden = got.Items, got.Next, got.Done, got.Scanned, got.Hidden
	return s.End()
}

// page is what the answers with pages have in common, in this order.
type wirePage struct {
	Items         []item
	Next          []byte
	Done, Scanned bool
	Hidden        []wantedKey
}

func appendPage(b []byte, m *wirePage) []byte {
	b = appendItems(b, m.Items)
	b = wire.AppendBytes(b, m.Next)
	b = wire.AppendBool(b, m.Done)
	b = wire.AppendBool(b, m.Scanned)
	return appendWanted(b, m.Hidden)
}

// parsePage reads what appendPage wrote. Records are not checked, but for their keys.
func parsePage(r *wire.Reader, s *wire.Struct) (m wirePage, err error) {
	if m.Items, err = itemsOf(r, s.Array()); err != nil {
		return m, err
	}
	m.Next = s.Bytes()
	m.Done = s.Bool()
	m.Scanned = s.Bool()
	if len(m.Next) > version.KeySizeMax {
		return m, wire.ErrMalformed
	}
	m.Hidden, err = wantedOf(r, s.Array())
	return m, err
}
