package quorum

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/wire"
)

const (
	opMax     = 32                   // bytes of the operation's name on the wire
	reasonMax = 256                  // bytes of one home's reason on the wire
	homesMax  = 2 * ring.ReplicasMax // homes on the wire
)

// UnmetError says that too few homes acknowledged an operation, and of each of
// the others why. It does not say whether the operation may have had an effect;
// the error that wraps it does. It can cross the wire, where long reasons are
// cut.
type UnmetError struct {
	// Op is the operation, such as "put"; it may be empty.
	Op string
	// Need and Got are numbers of slots, Slots is how many there are.
	Need, Got, Slots int
	// Zone is where they lack, if the level asks for homes in zones and the zone has
	// a name.
	Zone string
	// Homes are those that did not acknowledge.
	Homes []HomeError
}

// HomeError says why one home did not acknowledge.
type HomeError struct {
	ID   ring.NodeID
	Name string
	// Reason is short, such as "unreachable".
	Reason string
}

// Unmet makes the error of a tally that was not met; homes are those that did
// not acknowledge.
func (t *Tally) Unmet(op string, homes []HomeError) *UnmetError {
	return &UnmetError{Op: op, Need: t.Need(), Got: t.Got(), Slots: t.Slots(), Homes: homes}
}

// Unmet is Tally.Unmet for a tally of these seats: it names the zone, too.
func (s *Seats) Unmet(t *Tally, op string, homes []HomeError) *UnmetError {
	e := t.Unmet(op, homes)
	if t.zonal {
		e.Zone = s.zone(first(t.worst().seats))
	}
	return e
}

// Error is like "put: need 2 of 3, got 1: b 1a2b3c4d: unreachable, c 99aabbcc:
// deadline exceeded".
func (e *UnmetError) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	fmt.Fprintf(&b, "need %d of %d", e.Need, e.Slots)
	if e.Zone != "" {
		fmt.Fprintf(&b, " in zone %q", e.Zone)
	}
	fmt.Fprintf(&b, ", got %d", e.Got)
	for i := range e.Homes {
		b.WriteString([]string{": ", ", "}[min(i, 1)])
		b.WriteString(e.Homes[i].String())
	}
	return b.String()
}

// String is like "b 1a2b3c4d: unreachable".
func (h *HomeError) String() string {
	name := h.ID.Short()
	if h.Name != "" {
		name = h.Name + " " + name
	}
	if h.Reason == "" {
		return name
	}
	return name + ": " + h.Reason
}

// AppendWire implements wire.Appender.
func (e *UnmetError) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 6)
	b = wire.AppendString(b, cut(e.Op, opMax))
	b = wire.AppendUint(b, uint64(e.Need))
	b = wire.AppendUint(b, uint64(e.Got))
	b = wire.AppendUint(b, uint64(e.Slots))
	homes := e.Homes[:min(len(e.Homes), homesMax)]
	b = wire.AppendArray(b, len(homes))
	for i := range homes {
		h := &homes[i]
		b = wire.AppendArray(b, 3)
		b = wire.AppendBytes(b, h.ID[:])
		b = wire.AppendString(b, cut(h.Name, ring.NameMax))
		b = wire.AppendString(b, cut(h.Reason, reasonMax))
	}
	return wire.AppendString(b, cut(e.Zone, ring.NameMax))
}

// ParseWire implements wire.Parser.
func (e *UnmetError) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	e.Op = s.String()
	e.Need = int(s.UintMax(ring.ReplicasMax))
	e.Got = int(s.UintMax(ring.ReplicasMax))
	e.Slots = int(s.UintMax(ring.ReplicasMax))
	n := s.Array()
	if n > homesMax || len(e.Op) > opMax {
		return wire.ErrMalformed
	}
	e.Homes = nil
	if n > 0 {
		e.Homes = make([]HomeError, n)
	}
	for i := range e.Homes {
		h := &e.Homes[i]
		hs := r.Struct()
		hs.Fixed(h.ID[:])
		h.Name, h.Reason = hs.String(), hs.String()
		if err := hs.End(); err != nil {
			return err
		}
		if len(h.Name) > ring.NameMax || len(h.Reason) > reasonMax {
			return wire.ErrMalformed
		}
	}
	if e.Zone = s.String(); len(e.Zone) > ring.NameMax {
		return wire.ErrMalformed
	}
	return s.End()
}

// cut shortens text to most bytes, at the border of a character.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}
