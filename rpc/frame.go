package rpc

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"github.com/kithdb/kith/rpc/wire"
)

// A frame is
//
//	length    uint32, of all that follows
//	checksum  uint32, CRC32C of all that follows: of the rest, then of kind and id
//	kind      uint8
//	id        uint64, of the request
//	rest
//
// The rest of a request is the time left until its deadline (uint32, in
// microseconds), the length of the route's name (uint8), the name, and the body.
// That of an answer is its body, that of a failure what AppendError wrote. That of a
// goodbye is empty; a reader passes over it.
//
// Kinds are added as the protocol grows, within one version too. A dialer passes over
// frames with the id of no request that waits, whatever their kind; an answer of a kind
// that it does not know fails its request. A listener answers what it does not know by a
// failure which says that nothing was done.
const (
	lengthSize  = 4
	frameHeader = 17 // up to the rest
	frameMin    = frameHeader - lengthSize
)

const (
	kindSkip    = 0 // a request that was taken back
	kindRequest = 1
	kindReply   = 2
	kindFailure = 3
	kindGoodbye = 4 // the listener takes no more requests
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// beginFrame appends the header of a frame to an empty b; finishFrame fills it.
func beginFrame(b []byte, kind byte) []byte {
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0, kind, 0, 0, 0, 0, 0, 0, 0, 0)
}

// beginRequest appends a request up to its body.
func beginRequest(b []byte, route string, left time.Duration) []byte {
	b = beginFrame(b, kindRequest)
	b = binary.BigEndian.AppendUint32(b, micros(left))
	b = append(b, byte(len(route)))
	return append(b, route...)
}

func micros(left time.Duration) uint32 {
	return uint32(min(max(left.Microseconds(), 1), 1<<32-1))
}

// restSum is the checksum of the rest of a frame, which is the long part.
func restSum(b []byte) uint32 { return crc32.Checksum(b[frameHeader:], castagnoli) }

// finishFrame fills in what is known last.
func finishFrame(b []byte, id uint64, restSum uint32) {
	binary.BigEndian.PutUint32(b, uint32(len(b)-lengthSize))
	binary.BigEndian.PutUint64(b[9:], id)
	binary.BigEndian.PutUint32(b[4:], crc32.Update(restSum, castagnoli, b[8:frameHeader]))
}

// frame is one received frame; rest points into the receive buffer.
type frame struct {
	kind byte
	id   uint64
	rest []byte
}

// request splits the rest of a request.
func (f *frame) request() (route, body []byte, left time.Duration, err error) {
	if len(f.rest) < 5 || len(f.rest)-5 < int(f.rest[4]) {
		return nil, nil, 0, fmt.Errorf("%w: request of %d bytes", wire.ErrMalformed, len(f.rest))
	}
	end := 5 + int(f.rest[4])
	left = time.Duration(binary.BigEndian.Uint32(f.rest)) * time.Microsecond
	return f.rest[5:end], f.rest[end:], left, nil
}

const (
	chunkMin = 4 << 10
	chunkMax = 64 << 10
)

// frameReader cuts a stream into frames. It reads many at once into a chunk and
// never writes to the bytes of a frame again. What a frame claims is allocated
// only as its bytes come in.
type frameReader struct {
	from       io.Reader
	max        int // bytes of a frame
	chunk      []byte
	start, end int // of what is read and not yet cut
	size       int // of the next chunk
	largest    int // bytes got at once since the chunk began
}

// next gives the next frame that is here already.
func (r *frameReader) next() (f frame, ok bool, err error) {
	have := r.chunk[r.start:r.end]
	if len(have) < lengthSize {
		return frame{}, false, nil
	}
	n := int64(binary.BigEndian.Uint32(have))
	if n < frameMin || n > int64(r.max) {
		return frame{}, false, fmt.Errorf("%w: a frame of %d bytes, not %d to %d", wire.ErrMalformed, n, frameMin, r.max)
	}
	total := lengthSize + int(n)
	if len(have) < total {
		return frame{}, false, nil
	}
	b := have[:total:total]
	r.start += total
	if crc32.Update(restSum(b), castagnoli, b[8:frameHeader]) != binary.BigEndian.Uint32(b[4:]) {
		return frame{}, false, fmt.Errorf("%w: a frame of %d bytes fails its checksum", wire.ErrMalformed, n)
	}
	return frame{kind: b[8], id: binary.BigEndian.Uint64(b[9:]), rest: b[frameHeader:]}, true, nil
}

// fill waits for more bytes. It is called when next has no more frames, and
// trusts the length that next has checked.
func (r *frameReader) fill() error {
	r.room()
	n, err := r.from.Read(r.chunk[r.end:])
	r.end += n
	r.largest = max(r.largest, n)
	if r.end == len(r.chunk) && r.size < chunkMax {
		r.size *= 2
	}
	if n > 0 {
		return nil // an error comes again
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// room makes sure that there is room for more of the frame that has begun.
func (r *frameReader) room() {
	have, free := r.end-r.start, len(r.chunk)-r.end
	need := 0
	if have >= lengthSize {
		need = lengthSize + int(binary.BigEndian.Uint32(r.chunk[r.start:]))
	}
	switch {
	case need == 0 && free > 0 && free >= len(r.chunk)/8: // enough for the next few
		return
	case need > 0 && r.start+need <= len(r.chunk): // the frame fits
		return
	case r.start == 0 && len(r.chunk) >= chunkMax && free > 0: // a large frame's buffer, which grows step by step
		return
	}
	if r.size == 0 {
		r.size = chunkMin
	} else if r.size > chunkMin && r.largest < r.size/4 {
		r.size /= 2
	}
	size := r.size
	switch {
	case need > chunkMax:
		size = min(need, max(chunkMax, 4*have))
	case need > size:
		size = need
	}
	chunk := make([]byte, size)
	copy(chunk, r.chunk[r.start:r.end])
	r.chunk, r.start, r.end, r.largest = chunk, 0, have, 0
}

// segment is a run of frames that goes out with one write.
type segment struct{ b []byte }

const (
	segmentMax  = 64 << 10  // frames are joined up to this
	segmentKept = 256 << 10 // larger buffers are not used again
)

var segments = sync.Pool{New: func() any { return &segment{b: make([]byte, 0, chunkMin)} }}

func newSegment() *segment { return segments.Get().(*segment) }

func (s *segment) free() {
	if cap(s.b) <= segmentKept {
		s.b = s.b[:0]
		segments.Put(s)
	}
}
