package antientropy

import (
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
)

// clocksRoute asks a home for the clocks of the partitions that both are homes of.
const clocksRoute rpc.Route[clocksRequest, clocksResponse] = "ae.clocks"

// clocksRequest asks for what has changed since an earlier answer.
type clocksRequest struct {
	// Epoch of the ring record that says which partitions these are.
	Epoch uint64
	// Era and Since are those of the last answer to the end of which the asker
	// came; zero asks for all.
	Era, Since uint64
	// From is the first partition of interest: an answer that was cut goes on
	// there.
	From ring.Partition
	// Only are the partitions, sorted, of which all is asked for; none for those
	// that have changed since.
	Only []ring.Partition
}

// clocksResponse has clocks in the order of their partitions.
type clocksResponse struct {
	// Era of the clocks, and Now, the reading of the store's change numbers.
	Era, Now uint64
	Clocks   []partitionClock
	// More says that the answer was cut, and Next where it goes on.
	More bool
	Next ring.Partition
	// Ends are the closed actors of partitions among those of Clocks in which some
	// were closed since. A clock claims what is void by them: who takes over its
	// claims must know of them before.
	Ends []partitionEnds
}

// partitionClock is what a home has incorporated in one partition.
type partitionClock struct {
	Partition ring.Partition
	Clock     store.Clock
}

// AppendWire implements wire.Appender.
func (m *clocksRequest) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 5)
	b = wire.AppendUint(b, m.Epoch)
	b = wire.AppendUint(b, m.Era)
	b = wire.AppendUint(b, m.Since)
	b = wire.AppendUint(b, uint64(m.From))
	b = wire.AppendArray(b, len(m.Only))
	for _, p := range m.Only {
		b = wire.AppendUint(b, uint64(p))
	}
	return b
}

// ParseWire implements wire.Parser.
func (m *clocksRequest) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Epoch = s.Uint()
	m.Era = s.Uint()
	m.Since = s.Uint()
	m.From = partitionOf(&s)
	n := s.Array()
	if n > ring.SlotCount {
		return wire.ErrMalformed
	}
	for i := range n {
		p := ring.Partition(r.UintMax(ring.SlotCount - 1))
		if i > 0 && p <= m.Only[i-1] {
			r.Fail()
		}
		if r.Err() != nil {
			return r.Err()
		}
		m.Only = append(m.Only, p)
	}
	return s.End()
}

// AppendWire implements wire.Appender.
func (m *clocksResponse) AppendWire(b []byte) []byte {
	b = wire.AppendArray(b, 6)
	b = wire.AppendUint(b, m.Era)
	b = wire.AppendUint(b, m.Now)
	b = appendClocks(b, m.Clocks)
	b = wire.AppendBool(b, m.More)
	b = wire.AppendUint(b, uint64(m.Next))
	return appendEnds(b, m.Ends)
}

// ParseWire implements wire.Parser.
func (m *clocksResponse) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Era = s.Uint()
	m.Now = s.Uint()
	var err error
	if m.Clocks, err = clocksOf(r, s.Array()); err != nil {
		return err
	}
	m.More = s.Bool()
	m.Next = partitionOf(&s)
	if m.More && len(m.Clocks) > 0 && m.Next <= m.Clocks[len(m.Clocks)-1].Partition {
		return wire.ErrMalformed
	}
	m.Ends = endsOf(r, s.Array())
	return s.End()
}

// appendClocks writes clocks by partition.
func appendClocks(b []byte, clocks []partitionClock) []byte {
	b = wire.AppendArray(b, 2*len(clocks))
	for i := range clocks {
		b = wire.AppendUint(b, uint64(clocks[i].Partition))
		b = wire.AppendBytes(b, clocks[i].Clock.Append(nil))
	}
	return b
}

// clocksOf reads what appendClocks wrote. The partitions must be in order.
func clocksOf(r *wire.Reader, n int) (clocks []partitionClock, err error) {
	if n > 2*ring.SlotCount || n%2 != 0 {
		return nil, wire.ErrMalformed
	}
	for i := range n / 2 {
		c := partitionClock{Partition: ring.Partition(r.UintMax(ring.SlotCount - 1)), Clock: clockOf(r)}
		if i > 0 && c.Partition <= clocks[i-1].Partition {
			r.Fail()
		}
		if r.Err() != nil {
			return nil, r.Err()
		}
		clocks = append(clocks, c)
	}
	return clocks, nil
}

// clockSize is about how many bytes a clock has in a message.
func clockSize(c *store.Clock) (n int) {
	for i := range c.Actors {
		n += 16 + 8*len(c.Actors[i].Ranges)
	}
	return n
}

// clockOf reads a clock as an item.
func clockOf(r *wire.Reader) store.Clock {
	b := r.Bytes()
	if r.Err() != nil {
		return store.Clock{}
	}
	c, err := store.ParseClock(b)
	if err != nil {
		r.Fail()
	}
	return c
}

// clockOfDots is a set of dots as a clock that claims them and nothing else.
func clockOfDots(s store.DotSet) store.Clock {
	var c store.Clock
	for _, a := range s {
		out := store.ActorClock{Actor: a.Actor, Ranges: a.Ranges}
		if out.Ranges[0].First == 1 {
			out.Base, out.Ranges = out.Ranges[0].Last, out.Ranges[1:]
		}
		c.Actors = append(c.Actors, out)
	}
	return c
}

// dotsOfClock is all that a clock claims.
func dotsOfClock(c *store.Clock) store.DotSet { return c.Minus(&store.Clock{}) }
