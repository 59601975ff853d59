package wire_test

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/kithdb/kith/rpc/wire"
)

type inside struct {
	Key  []byte
	On   bool
	When time.Time
}

type everything struct {
	A int64
	B uint8
	C string
	D []byte
	E [16]byte
	F []inside
	G map[string]uint32
	H *inside
	I float64
	J float32
	K [3]int16
	L netip.Addr
	M time.Duration
	_ int // not on the wire
	O [][]string
}

// asArrays is how rpc encodes.
func asArrays(t interface{ Fatal(...any) }, v any) []byte {
	var b bytes.Buffer
	enc := msgpack.NewEncoder(&b)
	enc.UseArrayEncodedStructs(true)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func drawInside(t *rapid.T) inside {
	return inside{
		Key:  rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "key"),
		On:   rapid.Bool().Draw(t, "on"),
		When: time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "s"), rapid.Int64Range(0, 999999999).Draw(t, "ns")),
	}
}

func TestDecodeReadsWhatTheLibraryWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := everything{
			A: rapid.Int64().Draw(t, "a"), B: rapid.Uint8().Draw(t, "b"), C: rapid.String().Draw(t, "c"),
			D: rapid.SliceOfN(rapid.Byte(), 1, 50).Draw(t, "d"), E: [16]byte{rapid.Byte().Draw(t, "e")},
			F: rapid.SliceOfN(rapid.Custom(drawInside), 1, 20).Draw(t, "f"),
			G: rapid.MapOf(rapid.String(), rapid.Uint32()).Draw(t, "g"),
			I: rapid.Float64().Draw(t, "i"), J: rapid.Float32().Draw(t, "j"),
			K: [3]int16{rapid.Int16().Draw(t, "k")}, L: netip.MustParseAddr("10.0.0.1"), M: time.Duration(rapid.Int64().Draw(t, "m")),
			O: rapid.SliceOfN(rapid.SliceOfN(rapid.String(), 1, 3), 1, 3).Draw(t, "o"),
		}
		if rapid.Bool().Draw(t, "h?") {
			h := drawInside(t)
			in.H = &h
		}
		b := asArrays(t, &in)
		if err := wire.Check(b, wire.NodesMax); err != nil {
			t.Fatal(err)
		}
		var out everything
		r := wire.NewReader(b)
		if err := wire.Decode(r, &out); err != nil || len(r.Rest()) > 0 {
			t.Fatalf("%+v: %v, %d bytes left", in, err, len(r.Rest()))
		}
		if !reflect.DeepEqual(in, out) {
			t.Fatalf("%+v came back as %+v", in, out)
		}
	})
}

func TestDecodeRefusesWhatDoesNotFit(t *testing.T) {
	for name, c := range map[string]struct{ in, out any }{
		"negative": {&struct{ A int }{-1}, &struct{ A uint }{}},
		"large":    {&struct{ A int }{300}, &struct{ A int8 }{}},
		"array":    {&struct{ A [4]byte }{}, &struct{ A [5]byte }{}},
		"items":    {&struct{ A [4]int }{}, &struct{ A [5]int }{}},
		"text":     {&struct{ A string }{"x"}, &struct{ A []byte }{}},
		"time":     {&struct{ A string }{"x"}, &struct{ A time.Time }{}},
		"own":      {&struct{ A string }{"x"}, &struct{ A netip.Addr }{}},
		"float":    {&struct{ A int }{1}, &struct{ A float64 }{}},
		"map":      {&struct{ A []string }{[]string{"x"}}, &struct{ A map[string]string }{}},
		"struct":   {&struct{ A map[string]string }{map[string]string{"x": "y"}}, &struct{ A inside }{}},
	} {
		if err := wire.Decode(wire.NewReader(asArrays(t, c.in)), c.out); err == nil {
			t.Errorf("%s: %+v decodes into %+v", name, c.in, c.out)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(asArrays(f, &everything{}))
	f.Add(asArrays(f, &everything{F: []inside{{}}, G: map[string]uint32{"a": 1}, H: &inside{When: time.Unix(1, 1)}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if wire.Check(b, wire.NodesMax) != nil {
			return
		}
		var once, twice everything
		if wire.Decode(wire.NewReader(b), &once) != nil {
			return
		}
		if err := wire.Decode(wire.NewReader(asArrays(t, &once)), &twice); err != nil {
			t.Fatalf("%+v doesn't come back: %v", once, err)
		}
	})
}
