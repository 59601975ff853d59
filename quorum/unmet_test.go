package quorum

import (
	"reflect"
	"strings"
	"testing"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/wire"
	"pgregory.net/rapid"
)

func TestUnmetErrorNamesTheHomes(t *testing.T) {
	tally := New(3, 2)
	tally.Ack(0)
	tally.Fail(1)
	tally.Fail(2)
	err := tally.Unmet("put", []HomeError{
		{ID: ring.NodeID{0x1a, 0x2b, 0x3c, 0x4d}, Name: "b", Reason: "unreachable"},
		{ID: ring.NodeID{0xff}, Reason: "deadline exceeded"},
	})
	if got, want := err.Error(), "put: need 2 of 3, got 1: b 1a2b3c4d: unreachable, ff000000: deadline exceeded"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := (&UnmetError{Op: "get", Need: 2, Slots: 3, Got: 1, Zone: "eu"}).Error(), `get: need 2 of 3 in zone "eu", got 1`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := (&UnmetError{Need: 2, Slots: 3}).Error(), "need 2 of 3, got 0"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestUnmetErrorCrossesTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots := rapid.IntRange(1, ring.ReplicasMax).Draw(t, "slots")
		want := UnmetError{
			Op:   rapid.StringN(0, -1, opMax).Draw(t, "op"),
			Need: rapid.IntRange(1, slots).Draw(t, "need"), Got: rapid.IntRange(0, slots).Draw(t, "got"), Slots: slots,
			Zone: rapid.StringN(0, -1, ring.NameMax).Draw(t, "zone"),
		}
		for range rapid.IntRange(0, homesMax).Draw(t, "homes") {
			h := HomeError{Name: rapid.StringN(0, -1, ring.NameMax).Draw(t, "name"), Reason: rapid.StringN(0, -1, reasonMax).Draw(t, "reason")}
			copy(h.ID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
			want.Homes = append(want.Homes, h)
		}
		var got UnmetError
		r := wire.NewReader(want.AppendWire(nil))
		if err := got.ParseWire(r); err != nil || len(r.Rest()) > 0 {
			t.Fatalf("%v, %d bytes left", err, len(r.Rest()))
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v became %+v", want, got)
		}
	})
}

func TestLongTextsAreCutOnTheWire(t *testing.T) {
	long := strings.Repeat("ü", 1000)
	e := UnmetError{Op: long, Need: 2, Slots: 3, Zone: "a" + long, Homes: make([]HomeError, homesMax+3)}
	for i := range e.Homes {
		e.Homes[i] = HomeError{Name: "a" + long, Reason: "a" + long}
	}
	var got UnmetError
	if err := got.ParseWire(wire.NewReader(e.AppendWire(nil))); err != nil {
		t.Fatal(err)
	}
	if len(got.Homes) != homesMax {
		t.Fatalf("%d homes, want %d", len(got.Homes), homesMax)
	}
	for text, want := range map[string]int{got.Op: opMax, got.Homes[0].Name: ring.NameMax - 1, got.Homes[0].Reason: reasonMax - 1, got.Zone + " ": ring.NameMax} {
		if len(text) != want || strings.ToValidUTF8(text, "?") != text {
			t.Errorf("%q has %d bytes, want %d whole characters' worth", text, len(text), want)
		}
	}
}

// What newer senders add is skipped; what older ones did not know is zero.
func TestUnmetErrorsOfOtherVersionsAreRead(t *testing.T) {
	newer := wire.AppendArray(nil, 7)
	newer = wire.AppendString(newer, "get")
	newer = wire.AppendUint(newer, 2)
	newer = wire.AppendUint(newer, 1)
	older := append([]byte{0x93}, newer[1:]...)
	newer = wire.AppendUint(newer, 3)
	newer = wire.AppendArray(newer, 0)
	newer = wire.AppendString(newer, "eu")
	newer = wire.AppendString(newer, "more")
	for name, c := range map[string]struct {
		body []byte
		want UnmetError
	}{
		"newer": {newer, UnmetError{Op: "get", Need: 2, Got: 1, Slots: 3, Zone: "eu"}},
		"older": {older, UnmetError{Op: "get", Need: 2, Got: 1}},
	} {
		var got UnmetError
		if err := got.ParseWire(wire.NewReader(c.body)); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func FuzzParseUnmetError(f *testing.F) {
	f.Add((&UnmetError{Op: "put", Need: 2, Got: 1, Slots: 3, Homes: []HomeError{{Name: "b", Reason: "unreachable"}}}).AppendWire(nil))
	f.Add([]byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, body []byte) {
		var e UnmetError
		if e.ParseWire(wire.NewReader(body)) != nil {
			return
		}
		if len(e.Homes) > homesMax || len(e.Error()) > opMax+4*ring.NameMax+homesMax*(ring.NameMax+reasonMax+64)+64 {
			t.Fatalf("accepted %d homes and a text of %d bytes", len(e.Homes), len(e.Error()))
		}
		var again UnmetError
		if err := again.ParseWire(wire.NewReader(e.AppendWire(nil))); err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	})
}
