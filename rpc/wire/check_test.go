package wire_test

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/kithdb/kith/rpc/wire"
)

// bombs are what makes a trusting decoder allocate gigabytes or overflow its
// stack.
func bombs() map[string][]byte {
	return map[string][]byte{
		"array of 67 million":       {0xdd, 4, 0, 0, 0},
		"array of 50 million":       {0xdd, 0x02, 0xfa, 0xf0, 0x80},
		"array of 4 billion":        {0xdd, 0xff, 0xff, 0xff, 0xff},
		"map of 67 million":         {0xdf, 4, 0, 0, 0},
		"bytes of 2 GiB":            {0xc6, 0x7f, 0xff, 0xff, 0xff},
		"text of 4 GiB":             {0xdb, 0xff, 0xff, 0xff, 0xff},
		"extension of 4 GiB":        {0xc9, 0xff, 0xff, 0xff, 0xff, 1},
		"2 MB of arrays in arrays":  bytes.Repeat([]byte{0x91}, 2<<20),
		"2 MB of maps in maps":      bytes.Repeat([]byte{0x81}, 2<<20),
		"nine deep":                 append(bytes.Repeat([]byte{0x91}, 9), 1),
		"lists that claim the rest": bytes.Repeat([]byte{0xdc, 0, 1}, 1<<19),
		"a million nils":            append([]byte{0xdd, 0, 0x0f, 0x42, 0x40}, bytes.Repeat([]byte{0xc0}, 1000000)...),
		"nothing":                   {},
		"never used":                {0xc1},
		"more behind":               {0x90, 0x90},
		"cut":                       {0x92, 1},
		"cut number":                {0xcf, 1, 2},
	}
}

func TestFault24_CheckRefusesBombsWithoutAllocating(t *testing.T) {
	for name, b := range bombs() {
		if err := wire.Check(b, wire.NodesMax); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		// The error itself takes a few small allocations.
		if n := testing.AllocsPerRun(1, func() { _ = wire.Check(b, wire.NodesMax) }); n > 8 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if n := testing.AllocsPerRun(1, func() {
			r := wire.NewReader(b)
			r.Skip()
			_ = r.Array()
			_ = r.Bytes()
		}); n > 1 {
			t.Errorf("%s: reading allocates %v times", name, n)
		}
	}
}

func TestCheckPassesWhatTheLibraryWrites(t *testing.T) {
	type item struct {
		A int64
		B []byte
		C string
		D map[string]uint32
		E [][]float64
		F *bool
	}
	rapid.Check(t, func(t *rapid.T) {
		in := item{
			A: rapid.Int64().Draw(t, "a"),
			B: rapid.SliceOf(rapid.Byte()).Draw(t, "b"),
			C: rapid.String().Draw(t, "c"),
			D: rapid.MapOf(rapid.String(), rapid.Uint32()).Draw(t, "d"),
			E: rapid.SliceOf(rapid.SliceOf(rapid.Float64())).Draw(t, "e"),
		}
		b, err := msgpack.Marshal(&in)
		if err != nil {
			t.Fatal(err)
		}
		if err := wire.Check(b, wire.NodesMax); err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		r := wire.NewReader(b)
		r.Skip()
		if r.Err() != nil || len(r.Rest()) > 0 {
			t.Fatalf("skipping %x leaves %d bytes, %v", b, len(r.Rest()), r.Err())
		}
		if cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut"); wire.Check(b[:cut], wire.NodesMax) == nil {
			t.Fatalf("%x passes", b[:cut])
		}
	})
}

func TestPrimitivesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := rapid.Uint64().Draw(t, "u")
		i := rapid.Int64().Draw(t, "i")
		bs := rapid.SliceOfN(rapid.Byte(), 0, 70000).Draw(t, "bytes")
		s := rapid.String().Draw(t, "s")
		n := rapid.IntRange(0, 70000).Draw(t, "n")
		b := wire.AppendArray(nil, 6)
		b = wire.AppendUint(b, u)
		b = wire.AppendInt(b, i)
		b = wire.AppendBytes(b, bs)
		b = wire.AppendString(b, s)
		b = wire.AppendBool(b, n%2 == 0)
		b = wire.AppendArray(b, n)
		for range n {
			b = wire.AppendBool(b, true)
		}
		r := wire.NewReader(b)
		st := r.Struct()
		if st.Uint() != u || st.Int() != i || !bytes.Equal(st.Bytes(), bs) || st.String() != s || st.Bool() != (n%2 == 0) || st.Array() != n {
			t.Fatalf("%x reads as something else", b)
		}
		for range n {
			if !r.Bool() {
				t.Fatal("item changed")
			}
		}
		if st.End() != nil || len(r.Rest()) > 0 {
			t.Fatal(r.Err(), len(r.Rest()))
		}
	})
}

// The library reads what we write, so other programs can.
func TestPrimitivesAreMsgpack(t *testing.T) {
	for _, v := range []int64{0, 1, 127, 128, 255, 256, 65535, 65536, 1 << 31, 1 << 32, math.MaxInt64, -1, -32, -33, -128, -129, -32768, -32769, math.MinInt64} {
		var got int64
		if err := msgpack.Unmarshal(wire.AppendInt(nil, v), &got); err != nil || got != v {
			t.Errorf("%d reads as %d, %v", v, got, err)
		}
		b, err := msgpack.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if r := wire.NewReader(b); r.Int() != v || r.Err() != nil {
			t.Errorf("we don't read the library's %d", v)
		}
	}
}

func TestFieldsMayBeMissingOrNew(t *testing.T) {
	b := wire.AppendArray(nil, 1)
	b = wire.AppendUint(b, 7)
	r := wire.NewReader(b)
	s := r.Struct()
	if s.Uint() != 7 || s.String() != "" || s.Bytes() != nil || s.Bool() || s.Array() != 0 || s.End() != nil {
		t.Error("a missing field is not zero")
	}
	b = wire.AppendArray(nil, 3)
	b = wire.AppendUint(b, 7)
	b = append(b, 0x92, 0x91, 0xa1, 'x', 0xc0) // nested and new
	b = wire.AppendBytes(b, []byte("new"))
	r.Reset(b)
	s = r.Struct()
	if s.Uint() != 7 || s.End() != nil || len(r.Rest()) > 0 {
		t.Error("a new field is not skipped")
	}
}

func FuzzCheck(f *testing.F) {
	for _, b := range bombs() {
		if len(b) < 1000 {
			f.Add(b)
		}
	}
	f.Add([]byte{0x82, 0xa1, 'a', 0x93, 1, 2, 3, 0xa1, 'b', 0xc7, 2, 5, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		err := wire.Check(b, wire.NodesMax)
		r := wire.NewReader(b)
		r.Skip()
		if err == nil {
			if r.Err() != nil || len(r.Rest()) > 0 {
				t.Fatalf("Check passes %x, and Skip doesn't: %v", b, r.Err())
			}
			var v msgpack.RawMessage
			if err := msgpack.Unmarshal(b, &v); err != nil {
				t.Fatalf("Check passes %x, and the library doesn't: %v", b, err)
			}
		}
	})
}

func FuzzReader(f *testing.F) {
	f.Add([]byte{0x93, 1, 2, 3}, []byte{0, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, b, calls []byte) {
		r := wire.NewReader(b)
		for _, call := range calls {
			before := len(r.Rest())
			switch call % 9 {
			case 0:
				if n := r.Array(); n > len(r.Rest()) {
					t.Fatal("an array of more than there is")
				}
			case 1:
				r.Uint()
			case 2:
				r.Int()
			case 3:
				r.Bool()
			case 4:
				if len(r.Bytes()) > before {
					t.Fatal("more bytes than there are")
				}
			case 5:
				if len(r.String()) > before {
					t.Fatal("more text than there is")
				}
			case 6:
				r.Fixed(make([]byte, 16))
			case 7:
				r.Skip()
			case 8:
				if r.UintMax(5) > 5 {
					t.Fatal("above the bound")
				}
			}
			if len(r.Rest()) >= before && before > 0 && r.Err() == nil {
				t.Fatal("nothing was read, and there is no error")
			}
			if r.Err() != nil && len(r.Rest()) > 0 {
				t.Fatal("reading goes on behind a mistake")
			}
		}
	})
}
