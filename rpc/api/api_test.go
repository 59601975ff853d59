package api_test

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/rpc/wire"
)

type message interface {
	wire.Appender
	wire.Parser
}

// messages make one of each that encodes itself, by the number that the fuzzer
// chooses.
func messages() []message {
	return []message{
		&api.GetRequest{}, &api.GetResponse{}, &api.PutRequest{}, &api.PutResponse{}, &api.Receipt{},
		&api.GetAllRequest{}, &api.GetAllResponse{}, &api.PutAllRequest{}, &api.PutAllResponse{},
		&api.ScanRequest{}, &api.ScanResponse{}, &api.InspectRequest{}, &api.InspectResponse{},
	}
}

// samples are messages with something in every field.
func samples() []message {
	receipt := api.Receipt{Epoch: 3, Coordinator: ring.NodeID{1}, Answered: []ring.NodeID{{2}, {3}}, Need: 2, Siblings: 4, Sloppy: true, Repaired: true, Zones: []api.ZoneReceipt{{Zone: "eu", Need: 2, Got: 3, Homes: 3}, {}}}
	get := api.GetResponse{
		Found: true, Winner: 1, Context: []byte("ctx"), Receipt: receipt, Stamp: 1 << 50,
		Values: []api.Value{{Tombstone: true, Stamp: 5}, {Data: []byte("v"), Stamp: 6, Expiry: 7}},
	}
	put := api.PutRequest{Key: []byte("k"), Value: []byte("v"), W: api.All, Context: []byte("c"), NotAfter: 9, Forwarded: true, Stamp: 8, TTL: 11, Sloppy: true, Expiry: 12, Zone: "eu"}
	done := api.PutResponse{Context: []byte("c"), Receipt: receipt, Stamp: 10}
	return []message{
		&api.GetRequest{Key: []byte("k"), R: api.LocalQuorum, Stamp: 1, Zone: "eu"}, &get, &put, &done, &receipt,
		&api.GetAllRequest{Keys: [][]byte{[]byte("a"), []byte("b")}, R: 2, Stamp: 3, Zone: "eu"},
		&api.GetAllResponse{Results: []api.GetResult{{Response: get}, {Error: []byte("e")}}},
		&api.PutAllRequest{Puts: []api.PutRequest{put, {Key: []byte("d"), Delete: true}}},
		&api.PutAllResponse{Results: []api.PutResult{{Response: done}, {Error: []byte("e")}}},
		&api.ScanRequest{Partition: 1023, After: []byte("a"), Prefix: []byte("p"), Limit: 10, R: 1, KeysOnly: true, Zone: "eu"},
		&api.ScanResponse{Items: []api.ScanItem{{Key: []byte("k"), Value: []byte("v"), Siblings: 2, Expiry: 3}}, Next: []byte("n")},
		&api.InspectRequest{Key: []byte("k"), Local: true, Dots: []api.DotInfo{{Actor: "a", Seq: 1}}},
		&api.InspectResponse{Key: []byte("k"), Partition: 1, Slot: 2, Epoch: 3, Equal: true, Why: []string{"a", "b"}, Copies: []api.CopyInfo{
			{Member: "m", Name: "n", StandsInFor: "o", Error: "e"},
			{
				Member: "p", Found: true, Digest: "d", Seen: []api.DotInfo{{Actor: "a", Seq: 1}}, CountsForRead: true,
				Siblings:     []api.SiblingInfo{{DotInfo: api.DotInfo{Actor: "a", Seq: 1}, Tombstone: true, Stamp: 2, Written: -3, Expiry: 4, Expired: true, Size: 5, Digest: "v"}},
				Incorporated: []api.DotInfo{{Actor: "a", Seq: 1}},
			},
		}},
	}
}

func parse(b []byte, m message) error {
	r := wire.NewReader(b)
	if err := m.ParseWire(r); err != nil {
		return err
	}
	return r.Err()
}

func TestMessagesComeBackWhole(t *testing.T) {
	fresh := messages()
	for i, in := range samples() {
		b := in.AppendWire(nil)
		if err := wire.Check(b, wire.NodesMax); err != nil {
			t.Errorf("%T is not well-formed: %v", in, err)
		}
		if err := parse(b, fresh[i]); err != nil {
			t.Errorf("%T: %v", in, err)
			continue
		}
		if again := fresh[i].AppendWire(nil); !bytes.Equal(again, b) {
			t.Errorf("%T: %x came back as %x", in, b, again)
		}
		for n := range b {
			if parse(b[:n], messages()[i]) == nil {
				t.Errorf("%T: cut at %d it still parses", in, n)
			}
		}
	}
}

// A list of empty messages, a byte each, doesn't become gigabytes.
func TestFault24_ListsOfNothingStaySmall(t *testing.T) {
	const n = 16 << 20
	list := append(wire.AppendArray(wire.AppendArray(nil, 1), n), bytes.Repeat([]byte{0x90}, n)...)
	found := append([]byte{0x93, 0xc2, 0}, list[1:]...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, m := range messages() {
		for _, b := range [][]byte{list, found} {
			if err := parse(b, m); err != nil && !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("%T: %v", m, err)
			}
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("%d MiB were allocated", grown>>20)
	}
}

func FuzzMessages(f *testing.F) {
	for i, m := range samples() {
		f.Add(uint8(i), m.AppendWire(nil))
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		all := messages()
		m := all[int(which)%len(all)]
		if parse(b, m) != nil {
			return
		}
		once := m.AppendWire(nil)
		again := messages()[int(which)%len(all)]
		if err := parse(once, again); err != nil {
			t.Fatalf("%T: %x parsed, its encoding %x doesn't: %v", m, b, once, err)
		}
		if twice := again.AppendWire(nil); !bytes.Equal(once, twice) {
			t.Fatalf("%T: %x became %x", m, once, twice)
		}
	})
}
