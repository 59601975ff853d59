package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"github.com/kithdb/kith/rpc/wire"
)

// requestFrame builds what a client sends.
func requestFrame(id uint64, route string, left time.Duration, body []byte) []byte {
	b := append(beginRequest(nil, route, left), body...)
	finishFrame(b, id, restSum(b))
	return b
}

// readAll cuts everything that from gives.
func readAll(from io.Reader, max int) (all []frame, err error) {
	r := frameReader{from: from, max: max}
	for {
		f, ok, err := r.next()
		if err != nil {
			return all, err
		}
		if ok {
			all = append(all, f)
			continue
		}
		if err := r.fill(); err != nil {
			return all, err
		}
	}
}

func TestFramesArriveAsTheyWereSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		bodies := rapid.SliceOfN(rapid.OneOf(
			rapid.SliceOfN(rapid.Byte(), 0, 200),
			rapid.Map(rapid.IntRange(0, 300<<10), func(n int) []byte { return bytes.Repeat([]byte{byte(n)}, n) }),
		), 0, 20).Draw(t, "bodies")
		for i, body := range bodies {
			stream = append(stream, requestFrame(uint64(i)<<32, "kv.put", time.Duration(i+1)*time.Millisecond, body)...)
		}
		var from io.Reader = bytes.NewReader(stream)
		switch rapid.IntRange(0, 2).Draw(t, "reads") {
		case 0:
			from = iotest.HalfReader(from)
		case 1:
			if len(stream) < 10_000 {
				from = iotest.OneByteReader(from)
			}
		}
		all, err := readAll(from, 1<<20)
		if err != io.EOF || len(all) != len(bodies) {
			t.Fatalf("%d frames of %d, %v", len(all), len(bodies), err)
		}
		for i, f := range all {
			route, body, left, err := f.request()
			if err != nil || string(route) != "kv.put" || !bytes.Equal(body, bodies[i]) || f.id != uint64(i)<<32 || left != time.Duration(i+1)*time.Millisecond {
				t.Fatalf("frame %d: %q, %d bytes, id %d, %v, %v", i, route, len(body), f.id, left, err)
			}
		}
	})
}

// Whatever one flipped bit hits, no frame comes out changed.
func TestFault62_FlippedBitNeverPasses(t *testing.T) {
	stream := requestFrame(5, "kv.put", time.Second, []byte("some body"))
	for bit := range 8 * len(stream) {
		damaged := bytes.Clone(stream)
		damaged[bit/8] ^= 1 << (bit % 8)
		all, err := readAll(bytes.NewReader(damaged), 1<<20)
		if len(all) > 0 || err == nil {
			t.Errorf("bit %d: %d frames, %v", bit, len(all), err)
		}
	}
}

func TestFault62_FrameCutAtEveryByteIsDiscarded(t *testing.T) {
	stream := requestFrame(5, "kv.put", time.Second, []byte("some body"))
	for n := range len(stream) {
		if all, err := readAll(bytes.NewReader(stream[:n]), 1<<20); len(all) > 0 || err != io.EOF {
			t.Errorf("cut at %d: %d frames, %v", n, len(all), err)
		}
	}
}

// A length is refused before anything is allocated for it, and a permitted one
// is allocated only as its bytes arrive.
func TestFault24_FrameLengthsAllocateNothing(t *testing.T) {
	for _, claim := range []uint32{1<<32 - 1, 1 << 31, 20<<20 + 1, 12, 0} {
		head := binary.BigEndian.AppendUint32(nil, claim)
		if _, err := readAll(bytes.NewReader(append(head, make([]byte, 100)...)), 20<<20); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("a frame of %d bytes gives %v", claim, err)
		}
	}
	head := append(binary.BigEndian.AppendUint32(nil, 20<<20), make([]byte, 1000)...)
	r := frameReader{from: bytes.NewReader(head), max: 20 << 20}
	for {
		if _, ok, err := r.next(); ok || err != nil {
			t.Fatal(ok, err)
		}
		if r.fill() != nil {
			break
		}
		if len(r.chunk) > chunkMax {
			t.Fatalf("%d bytes came and %d were allocated", r.end, len(r.chunk))
		}
	}
}

func TestReaderOfAnIdleConnectionStaysSmall(t *testing.T) {
	pr, pw := io.Pipe()
	defer pw.Close()
	r := frameReader{from: pr, max: 1 << 20}
	f := requestFrame(1, "kv.get", time.Second, make([]byte, 128))
	burst := bytes.Repeat(f, 1000)
	send := func(b []byte) {
		go func() { _, _ = pw.Write(b) }()
		for got := 0; got < len(b)/len(f); {
			_, ok, err := r.next()
			if ok {
				got++
			} else if err == nil {
				err = r.fill()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	send(burst)
	if r.size != chunkMax {
		t.Errorf("under load chunks have %d bytes, not %d", r.size, chunkMax)
	}
	for range 2000 {
		send(f)
	}
	if r.size != chunkMin || len(r.chunk) != chunkMin {
		t.Errorf("with one request at a time chunks have %d bytes, not %d", r.size, chunkMin)
	}
}

func FuzzFrames(f *testing.F) {
	whole := requestFrame(5, "kv.put", time.Second, []byte("some body"))
	f.Add(whole)
	f.Add(append(bytes.Clone(whole), whole[:20]...))
	f.Add(binary.BigEndian.AppendUint32(nil, 1<<32-1))
	f.Fuzz(func(t *testing.T, stream []byte) {
		// The same bytes once more where a checksum doesn't guard them.
		sealed := append(beginFrame(nil, kindRequest), stream...)
		finishFrame(sealed, 9, restSum(sealed))
		stream = append(sealed, stream...)
		all, err := readAll(bytes.NewReader(stream), 1<<16)
		if err == nil {
			t.Fatal("no end")
		}
		for _, f := range all {
			if f.kind == kindRequest {
				if route, body, _, err := f.request(); err == nil && len(route)+len(body)+5 != len(f.rest) {
					t.Fatal("bytes of a request are lost")
				}
			}
		}
	})
}

func FuzzHandshake(f *testing.F) {
	f.Add(appendHandshake(nil, &hello{protocols: Protocols{1, 1}, addr: "127.0.0.1:7000"}))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Add((&hello{protocols: Protocols{1, 1}, addr: "127.0.0.1:7000", refusal: []byte("x")}).AppendWire(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHandshake(bytes.NewReader(b))
		if err != nil { // perhaps it is a message without its header
			h = &hello{}
			if decode(b, h) != nil || len(h.AppendWire(nil)) > handshakeMax {
				return
			}
		}
		again, err := readHandshake(bytes.NewReader(appendHandshake(nil, h)))
		if err != nil || again.cluster != h.cluster || again.node != h.node || again.expected != h.expected ||
			again.protocols != h.protocols || again.addr != h.addr || again.frameMax != h.frameMax || !bytes.Equal(again.refusal, h.refusal) {
			t.Fatalf("%+v came back as %+v, %v", h, again, err)
		}
	})
}
