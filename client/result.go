package client

import (
	"encoding/base64"
	"fmt"
	"math"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// A Context names what a read saw or a write left, for a later write of the
// same key. It is opaque, bound to its key and cluster, and may be kept, sent
// and used by another client. A nil Context names nothing.
type Context []byte

// String gives the context as text, in the base64url alphabet without padding.
func (c Context) String() string { return base64.RawURLEncoding.EncodeToString(c) }

// ParseContext reads what String wrote.
func ParseContext(s string) (Context, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("context %q is not base64url: %w", shorten(s), ErrBadRequest)
	}
	return b, nil
}

// A Result is what a read found.
type Result struct {
	// Value is the winner's: of all siblings the one with the latest stamp.
	// It is nil if the key was not found; an empty value is not nil.
	Value []byte
	// Expires is when Value stops to be readable; zero is never.
	Expires time.Time
	// Siblings are all concurrent writes of the key that no later write has
	// replaced, deleted ones included. There is one unless writers were
	// concurrent, and none for a key that was never written.
	Siblings []Sibling
	// Context lets a write replace what was read. It is set also when the
	// key was not found.
	Context Context
	// Receipt says how the read was done.
	Receipt Receipt
}

// A Sibling is one of the concurrent writes of a key.
type Sibling struct {
	// Value is nil for a delete, and once it has expired.
	Value []byte
	// Deleted says that the write was a delete, or has expired.
	Deleted bool
	// Winner says that this is the sibling whose value a Result has.
	Winner bool
	// Stamp orders writes in (almost) real time.
	Stamp uint64
	// Expires is when the sibling reads as absent, or since when it does;
	// zero is never, and a delete's.
	Expires time.Time
}

// Time is when the write was accepted, by its coordinator's clock, to the
// millisecond.
func (s Sibling) Time() time.Time { return stampTime(s.Stamp) }

// Written is the outcome of a write that was done.
type Written struct {
	// Context covers the write: a later write with it replaces this one and
	// what this one has replaced.
	Context Context
	// Receipt says how the write was done.
	Receipt Receipt
}

// A Receipt says how an operation was done.
type Receipt struct {
	// Epoch of the ring record that was used.
	Epoch uint64
	// Coordinator is the node that did it.
	Coordinator ring.NodeID
	// Answered are the homes that had answered a read, or had a write on
	// disk, when the operation was done. Others may follow. With Sloppy,
	// some of them are members that keep the write for a home.
	Answered []ring.NodeID
	// Need is how many homes were asked for: with LocalQuorum and EachQuorum, in all
	// zones together.
	Need int
	// Siblings that the key has, as far as the coordinator knows.
	Siblings int
	// Sloppy says that a stand-in was counted for a home.
	Sloppy bool
	// Repaired says that the homes differed, and that the read has brought
	// those that answered up to date.
	Repaired bool
	// Zones say what LocalQuorum or EachQuorum asked for in each zone, and had; nil at
	// other levels.
	Zones []ZoneReceipt
}

// A ZoneReceipt is what an operation had in one zone.
type ZoneReceipt struct {
	// Zone is its name, as members give it.
	Zone string
	// Need of the Homes there had to answer, and Got had.
	Need, Got, Homes int
}

// Got is how many homes had answered.
func (r Receipt) Got() int { return len(r.Answered) }

func receiptOf(r *api.Receipt) Receipt {
	out := Receipt{
		Epoch:       r.Epoch,
		Coordinator: r.Coordinator,
		Answered:    r.Answered,
		Need:        int(r.Need),
		Siblings:    r.Siblings,
		Sloppy:      r.Sloppy,
		Repaired:    r.Repaired,
	}
	for _, z := range r.Zones {
		out.Zones = append(out.Zones, ZoneReceipt{Zone: z.Zone, Need: int(z.Need), Got: int(z.Got), Homes: int(z.Homes)})
	}
	return out
}

func resultOf(r *api.GetResponse) Result {
	out := Result{Context: r.Context, Receipt: receiptOf(&r.Receipt)}
	if len(r.Values) > 0 {
		out.Siblings = make([]Sibling, len(r.Values))
	}
	for i := range r.Values {
		v := &r.Values[i]
		s := Sibling{
			Value:   v.Data,
			Deleted: v.Tombstone,
			Winner:  i == r.Winner,
			Stamp:   v.Stamp,
		}
		if s.Value == nil && !s.Deleted {
			s.Value = []byte{}
		}
		s.Expires = expiryTime(v.Expiry)
		out.Siblings[i] = s
	}
	if r.Found {
		out.Value = out.Siblings[r.Winner].Value
		out.Expires = out.Siblings[r.Winner].Expires
	}
	return out
}

// expiryTime is the time of an expiry in milliseconds since 1970, zero for never.
func expiryTime(ms uint64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(min(ms, math.MaxInt64)))
}

func writtenOf(r *api.PutResponse) Written {
	return Written{Context: r.Context, Receipt: receiptOf(&r.Receipt)}
}
