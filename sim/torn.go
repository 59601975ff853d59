package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// MoveFaults befall those who have part in the move of a slot, when it is under way: they
// are for stories in which operators change the ring all the time.
func MoveFaults() []Fault { return []Fault{tornLinks, turnBack} }

const (
	// underwayMax is how long a fault waits for a move that is as it is to be.
	underwayMax = 4 * time.Second
	// underwayLook is how often it looks: at times that nobody else wakes.
	underwayLook = 3*time.Millisecond + 7*time.Microsecond
)

// underway waits until some move has come to a phase, or to any if that is 0, and gives
// it with its record; nil if there was none in time.
func (c *Cluster) underway(rng *rand.Rand, phase ring.Phase) (*ring.Record, *ring.Move) {
	for until := time.Now().Add(underwayMax); time.Now().Before(until); rest(context.Background(), underwayLook) {
		r := c.rings.At(c.rings.Last())
		var all []*ring.Move
		for i := range r.Moves {
			if m := &r.Moves[i]; m.Phase == phase || phase == 0 {
				all = append(all, m)
			}
		}
		if len(all) > 0 {
			return r, all[rng.IntN(len(all))]
		}
	}
	return nil, nil
}

// tornLinks leaves those who hold a partition, and perhaps all others, with links of
// which some carry nothing, or nothing one way, or are slow: each of them by itself, so
// that a member may hear another one by a third one only, or too late. It begins when a
// slot of the partition is about to be moved, or is being moved, or at any time.
var tornLinks = Fault{"torn links", func(c *Cluster, rng *rand.Rand) (string, func() error) {
	phase := pick(rng, 0, 0, ring.PhasePlan, ring.PhaseDual, ring.PhaseReadNew, ring.PhaseBack)
	r, m := c.underway(rng, phase)
	if m == nil {
		r = c.rings.At(c.rings.Last())
		m = &ring.Move{Partition: ring.Partition(rng.IntN(r.Partitions))}
	}
	ends := append(slices.Clone(r.Homes(m.Partition)), m.To)
	rest(context.Background(), pick(rng, 0, 0, time.Duration(rng.Int64N(int64(300*time.Millisecond)))))
	often, all := pick(rng, 0.25, 0.5, 0.75), rng.IntN(3) == 0
	shape := c.opts.Network.Link
	var slow [][2]string
	cuts := 0
	for i, a := range c.Machines {
		for _, b := range c.Machines[:i] {
			torn, way := rng.Float64() < often, rng.IntN(6)
			late := 50*time.Millisecond + time.Duration(rng.Int64N(int64(1500*time.Millisecond)))
			if !torn || !all && !(slices.Contains(ends, a.ID()) && slices.Contains(ends, b.ID())) {
				continue
			}
			cuts++
			switch way {
			case 0, 1:
				c.Cut(a.index, b.index)
				c.Cut(b.index, a.index)
			case 2:
				c.Cut(a.index, b.index)
			case 3:
				c.Cut(b.index, a.index)
			default:
				shape.Latency = late
				for _, pair := range [][2]string{{a.Name, b.Name}, {b.Name, a.Name}} {
					c.Network.SetLink(pair[0], pair[1], shape)
					slow = append(slow, pair)
				}
			}
		}
	}
	return fmt.Sprintf("%d of the holders of partition %d", cuts, m.Partition), func() error {
		c.Network.Heal()
		for _, pair := range slow {
			c.Network.UnsetLink(pair[0], pair[1])
		}
		return nil
	}
}}

// turnBack takes back what a move is made for, when that has come to a phase, and perhaps
// wants it again a moment later.
var turnBack = Fault{"turn", func(c *Cluster, rng *rand.Rand) (string, func() error) {
	_, m := c.underway(rng, pick(rng, ring.PhaseDual, ring.PhaseReadNew, ring.PhaseReadNew))
	if m == nil {
		return "no slot is moved", nil
	}
	id := m.To
	verb := pick(rng, api.VerbAbort, api.VerbAbort, api.VerbLeave)
	again, after := rng.IntN(2) == 0, time.Duration(rng.Int64N(int64(time.Second)))
	first, then := c.running(rng), c.running(rng)
	host := c.host()
	c.operators.Go(func() {
		c.call(host, first, api.ChangeRequest{Verb: verb, Member: id.String()})
		if again {
			rest(context.Background(), after)
			c.call(host, then, api.ChangeRequest{Verb: api.VerbJoin, Member: id.String()})
		}
	})
	return c.nameOf(id), nil
}}
