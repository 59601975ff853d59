package antientropy

import (
	"bytes"
	"testing"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// auditMessage is one of the audit's or of forgetting.
type auditMessage interface {
	wire.Appender
	wire.Parser
}

func auditMessages() []auditMessage {
	d := version.Digest{1, 2, 3}
	dots := []version.Dot{{Actor: 3, Seq: 1}, {Actor: 3, Seq: 9}, {Actor: 7, Seq: 2}}
	base := version.Context{{Actor: 3, Seq: 9}, {Actor: 7, Seq: 1 << 60}}
	leaves := leafSet{0: 1, 31: 0x80}
	return []auditMessage{
		&rootsRequest{[]partitionRoot{{5, d}, {ring.SlotCount - 1, version.Digest{9}}}},
		&rootsResponse{[]rootState{rootEqual, rootDiffers, rootNotHome}},
		&nodesRequest{5, [arity]version.Digest{0: d, 15: d}},
		&nodesResponse{rootDiffers, 0x8001, [][arity]store.Sum{{0: {High: 1, Low: 2}}, {15: {High: 3, Low: 1 << 63}}}},
		&listRequest{5, 7, leaves, []byte("after")},
		&listResponse{[]listedKey{{[]byte("a"), d}, {[]byte("b"), version.Digest{}}}, []byte("c"), true},
		&digestsRequest{5, [][]byte{[]byte("a"), bytes.Repeat([]byte("k"), version.KeySizeMax)}},
		&digestsResponse{[]version.Digest{d, {}}},
		&fetchRequest{5, []wantedKey{{[]byte("a"), dots}, {[]byte("b"), nil}}},
		&fetchResponse{true, base, []fetchedKey{{[]byte("record"), []bool{true, false}}, {nil, nil}}},
		&offerRequest{5, true, base, []offeredKey{{[]byte("a"), []byte("record"), dots}, {[]byte("b"), nil, nil}}},
		&offerResponse{[][]byte{nil, []byte("error")}},
		&confirmRequest{5, 7, []deadKey{{[]byte("a"), d, base}, {[]byte("b"), d, nil}}},
		&confirmResponse{[]deadAnswer{{deadConfirmed, base}, {deadLossy, nil}}},
		&purgeRequest{5, 1 << 40, []purgedKey{{[]byte("a"), d}}, 77},
		&purgeResponse{[]bool{true, false}},
		&doubtRequest{5, []byte("a"), version.Dot{Actor: 3, Seq: 9}},
		&doubtResponse{true},
	}
}

func blankAudit(i int) auditMessage {
	return []auditMessage{
		new(rootsRequest), new(rootsResponse), new(nodesRequest), new(nodesResponse), new(listRequest), new(listResponse),
		new(digestsRequest), new(digestsResponse), new(fetchRequest), new(fetchResponse), new(offerRequest), new(offerResponse),
		new(confirmRequest), new(confirmResponse), new(purgeRequest), new(purgeResponse), new(doubtRequest), new(doubtResponse),
	}[i]
}

func TestAuditMessagesReadWhatTheyWrote(t *testing.T) {
	for i, m := range auditMessages() {
		b := m.AppendWire(nil)
		got := blankAudit(i)
		r := wire.NewReader(b)
		if err := got.ParseWire(r); err != nil || len(r.Rest()) > 0 {
			t.Errorf("%T: %v, %d bytes left", m, err, len(r.Rest()))
		}
		if again := got.AppendWire(nil); !bytes.Equal(again, b) {
			t.Errorf("%T: %x became %x", m, b, again)
		}
		for cut := range b {
			if blankAudit(i).ParseWire(wire.NewReader(b[:cut])) == nil {
				t.Errorf("%T: %d of %d bytes are read as a whole", m, cut, len(b))
			}
		}
	}
}

func TestFault24_AuditMessagesAreBounded(t *testing.T) {
	many := func(n int) (out []deadKey) {
		for range n {
			out = append(out, deadKey{Key: []byte("a")})
		}
		return out
	}
	dots := func(n int) (out []version.Dot) {
		for i := range n {
			out = append(out, version.Dot{Actor: version.Actor(i + 1), Seq: 1})
		}
		return out
	}
	roots := make([]partitionRoot, rootsMax+1)
	keys := make([][]byte, keysMax+1)
	listed := make([]listedKey, listMax+1)
	for i := range keys {
		keys[i] = []byte("a")
	}
	for i := range listed {
		listed[i].Key = []byte("a")
	}
	for i, c := range []struct{ in, out auditMessage }{
		{&rootsRequest{roots}, new(rootsRequest)},
		{&rootsRequest{[]partitionRoot{{Partition: ring.SlotCount}}}, new(rootsRequest)},
		{&rootsResponse{make([]rootState, rootsMax+1)}, new(rootsResponse)},
		{&rootsResponse{[]rootState{rootStates}}, new(rootsResponse)},
		{&nodesRequest{Partition: ring.SlotCount}, new(nodesRequest)},
		{&nodesResponse{Leaves: make([][arity]store.Sum, arity+1)}, new(nodesResponse)},
		{&listRequest{After: make([]byte, version.KeySizeMax+1)}, new(listRequest)},
		{&listResponse{Items: listed}, new(listResponse)},
		{&listResponse{Items: []listedKey{{}}}, new(listResponse)},
		{&digestsRequest{Keys: keys}, new(digestsRequest)},
		{&digestsRequest{Keys: [][]byte{nil}}, new(digestsRequest)},
		{&digestsResponse{make([]version.Digest, keysMax+1)}, new(digestsResponse)},
		{&fetchRequest{Items: []wantedKey{{[]byte("a"), dots(dotsMax + 1)}}}, new(fetchRequest)},
		{&fetchRequest{Items: []wantedKey{{[]byte("a"), []version.Dot{{Actor: 2, Seq: 1}, {Actor: 1, Seq: 1}}}}}, new(fetchRequest)},
		{&fetchRequest{Items: []wantedKey{{[]byte("a"), []version.Dot{{Actor: 2}}}}}, new(fetchRequest)},
		{&fetchResponse{Base: dots(basesMax + 1)}, new(fetchResponse)},
		{&fetchResponse{Base: version.Context{{Actor: 1, Seq: 1}, {Actor: 1, Seq: 2}}}, new(fetchResponse)},
		{&fetchResponse{Items: make([]fetchedKey, keysMax+1)}, new(fetchResponse)},
		{&offerRequest{Items: []offeredKey{{make([]byte, version.KeySizeMax+1), nil, nil}}}, new(offerRequest)},
		{&offerResponse{make([][]byte, keysMax+1)}, new(offerResponse)},
		{&offerResponse{[][]byte{make([]byte, outcomeMax+1)}}, new(offerResponse)},
		{&confirmRequest{Items: many(keysMax + 1)}, new(confirmRequest)},
		{&confirmResponse{[]deadAnswer{{Word: deadWords}}}, new(confirmResponse)},
		{&purgeRequest{Items: make([]purgedKey, 1)}, new(purgeRequest)},
		{&purgeResponse{make([]bool, keysMax+1)}, new(purgeResponse)},
		{&doubtRequest{5, make([]byte, version.KeySizeMax+1), version.Dot{Actor: 1, Seq: 1}}, new(doubtRequest)},
		{&doubtRequest{5, []byte("a"), version.Dot{Actor: 1}}, new(doubtRequest)},
	} {
		if c.out.ParseWire(wire.NewReader(c.in.AppendWire(nil))) == nil {
			t.Errorf("%d: %T over its bound is read", i, c.in)
		}
	}
}

// FuzzAuditMessages reads what strangers may send.
func FuzzAuditMessages(f *testing.F) {
	for i, m := range auditMessages() {
		f.Add(uint8(i), m.AppendWire(nil))
	}
	f.Fuzz(func(t *testing.T, i uint8, b []byte) {
		n := int(i) % len(auditMessages())
		m := blankAudit(n)
		if m.ParseWire(wire.NewReader(b)) != nil {
			return
		}
		// What was read is written in one form, which reads the same.
		once := m.AppendWire(nil)
		again := blankAudit(n)
		if err := again.ParseWire(wire.NewReader(once)); err != nil {
			t.Fatalf("%T from %x cannot be read again: %v", m, b, err)
		}
		if !bytes.Equal(again.AppendWire(nil), once) {
			t.Fatalf("%T from %x has two forms", m, b)
		}
		if list, ok := m.(*listResponse); ok {
			_ = list.check([]byte("a"))
		}
		if nodes, ok := m.(*nodesResponse); ok {
			_, _ = differingLeaves(new(store.Tree), nodes)
		}
	})
}
