package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/kithdb/kith/store/version"
)

// Ending is what is known of the end of an actor in a partition. A crash can leave a
// dot that nobody holds: then no clock's base ever rises above it. Closing the actor
// says which of its dots were written, for ever; all others are void.
type Ending struct {
	Actor version.Actor
	// Closed says that Dots are all that was ever written, as all homes have
	// agreed. Else the actor is fenced: Dots are some that a fenced member held,
	// and this store takes, beside those that it holds, no others.
	Closed bool
	// Dots are ranges of numbers, sorted, with gaps between them; at most
	// EndingRangesMax.
	Dots []Range
}

// Bounds of endings.
const (
	// EndingRangesMax is how many ranges the dots of one ending have at most.
	EndingRangesMax = 4096
	// endingsMax bounds the endings of one partition.
	endingsMax = ClockActorsMax
)

// Why a record is refused whole. What it has seen must not count either: it would
// end acknowledged siblings that a write has replaced which is void.
var (
	// ErrEnding: the record has a dot of an actor that is being closed, and it is
	// not known yet whether that counts. It may be sent again.
	ErrEnding = errors.New("actor is being closed")
	// ErrEnded: the record has a void dot of an actor that was closed. It will
	// never be taken.
	ErrEnded = errors.New("write is void: its actor was closed without it")
)

// Has says that the dot is among Dots.
func (e *Ending) Has(seq uint64) bool {
	one := DotSet{{e.Actor, e.Dots}}
	return one.Has(version.Dot{Actor: e.Actor, Seq: seq})
}

// Last is the highest number of Dots, 0 for none.
func (e *Ending) Last() uint64 {
	if len(e.Dots) == 0 {
		return 0
	}
	return e.Dots[len(e.Dots)-1].Last
}

// Holes are the void dots of a closed actor, up to its last one.
func (e *Ending) Holes() []Range {
	if e.Last() == 0 {
		return nil
	}
	return subtract([]Range{{1, e.Last()}}, e.Dots)
}

// Refused says why a record is not to be merged, by the endings of its partition,
// sorted by actor: ErrEnding or ErrEnded. holds says which dots the store holds. It
// is nil if nothing is in the way.
func Refused(endings []Ending, r *version.Record, holds func(version.Dot) bool) error {
	for i := range r.Siblings {
		d := r.Siblings[i].Dot
		at, ok := findEnding(endings, d.Actor)
		if !ok || endings[at].Has(d.Seq) {
			continue
		}
		switch {
		case endings[at].Closed:
			return fmt.Errorf("%w: key %.64q: %016x/%d", ErrEnded, r.Key, uint64(d.Actor), d.Seq)
		case !holds(d):
			return fmt.Errorf("%w: key %.64q: %016x/%d", ErrEnding, r.Key, uint64(d.Actor), d.Seq)
		}
	}
	return nil
}

func findEnding(endings []Ending, actor version.Actor) (int, bool) {
	return slices.BinarySearchFunc(endings, actor, func(e Ending, actor version.Actor) int { return compareActors(e.Actor, actor) })
}

// with is what is known when news comes of the same actor. It says whether that is
// more. What is closed stays as it is.
func (e Ending) with(news Ending) (Ending, bool) {
	if e.Closed {
		return e, false
	}
	if news.Closed {
		return news, true
	}
	all := union(e.Dots, news.Dots)
	return Ending{Actor: e.Actor, Dots: all}, !slices.Equal(all, e.Dots)
}

// check refuses what cannot be an ending.
func (e *Ending) check() error {
	if e.Actor == 0 || len(e.Dots) > EndingRangesMax {
		return fmt.Errorf("%w: ending of actor %016x with %d ranges, limit %d", errDots, uint64(e.Actor), len(e.Dots), EndingRangesMax)
	}
	if len(e.Dots) == 0 {
		return nil
	}
	return DotSet{{e.Actor, e.Dots}}.check()
}

// Append encodes the ending behind b: a CRC32C of what follows, 8 bytes, a byte that
// is 1 if it is closed, a count, and the ranges as distances.
func (e *Ending) Append(b []byte) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Actor))
	closed := byte(0)
	if e.Closed {
		closed = 1
	}
	b = appendRanges(append(b, closed), 0, e.Dots)
	binary.BigEndian.PutUint32(b[start:], crc32.Checksum(b[start+4:], castagnoli))
	return b
}

var errEnding = errors.New("corrupt ending of an actor")

// ParseEnding reads what Append wrote.
func ParseEnding(b []byte) (Ending, error) {
	if len(b) < 14 || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) || b[12] > 1 {
		return Ending{}, fmt.Errorf("%w: %d bytes", errEnding, len(b))
	}
	e := Ending{Actor: version.Actor(binary.BigEndian.Uint64(b[4:])), Closed: b[12] == 1}
	f := fields{b: b[13:]}
	e.Dots = f.ranges(0, EndingRangesMax)
	if f.bad || len(f.b) > 0 || e.check() != nil {
		return Ending{}, fmt.Errorf("%w: content", errEnding)
	}
	return e, nil
}
