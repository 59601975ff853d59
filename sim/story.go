package sim

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kithdb/kith/client"
)

// Story is a run of clients against a cluster while faults befall it, all drawn
// from the cluster's seed.
type Story struct {
	// Steps are the faults; nil draws them from Faults, and Faults nil is
	// AllFaults.
	Steps  []Step
	Faults []Fault
	// Length of the run. 0 is 20 s.
	Length time.Duration
	// Clients, each with one operation at a time. 0 is 4.
	Clients int
	// Keys that clients fight over with contexts. 0 is 3. As many again are
	// written blindly, and every client has keys that it writes once.
	Keys int
	// Pause is the longest between two operations of a client. 0 is 400 ms.
	Pause time.Duration
	// ValueSize pads values to so many bytes.
	ValueSize int
	// Chains has clients write again with the context that a put returned.
	Chains bool
	// Strays has clients use a context for another key now and then, which
	// must be refused.
	Strays bool
	// Mortal has clients write values that expire.
	Mortal bool
	// Changes has operators change the ring, beside the faults.
	Changes bool
	// Resizes has them change the number of homes of a key as well, if they change
	// anything.
	Resizes bool
	// Sloppy has clients let stand-ins count for homes now and then.
	Sloppy bool
}

func (s *Story) setDefaults(c *Cluster) {
	if s.Faults == nil {
		s.Faults = AllFaults()
	}
	if s.Length == 0 {
		s.Length = 20 * time.Second
	}
	if s.Clients == 0 {
		s.Clients = 4
	}
	if s.Keys == 0 {
		s.Keys = 3
	}
	if s.Pause == 0 {
		s.Pause = 400 * time.Millisecond
	}
	if s.Steps == nil {
		s.Steps = draw(c.Chance("faults"), s.Faults, s.Length)
		if s.Changes {
			s.Steps = append(s.Steps, draw(c.Chance("operators"), RingFaults(), s.Length)...)
			if s.Resizes {
				s.Steps = append(s.Steps, drawEvery(c.Chance("resizes"), ResizeFaults(), s.Length, resizeEvery)...)
			}
			slices.SortStableFunc(s.Steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
		}
	}
}

// resizeEvery is how far two changes of the number of homes are apart at most: many have
// begun to move slots when the next one wants another number.
const resizeEvery = 12 * time.Second

// lateMax is the latest that a put is minted after its client gave up: the skew
// that nodes allow each other, and how much a client that is kept waiting for a
// node's time may be wrong, with a bit to spare.
const lateMax = 3 * time.Second

// Play runs the story on a cluster that is ready, heals it, and checks what is
// found. The error tells the faults and the key's story; Log has the nodes' words.
func (c *Cluster) Play(s Story) (*History, error) {
	s.setDefaults(c)
	c.loses = s.loses()
	h := NewHistory()
	before := runtime.NumGoroutine()
	if !slices.ContainsFunc(s.Steps, func(s Step) bool { return s.Fault == clockJump.Name }) {
		h.ClocksRight()
	}
	told, err := c.runStory(s, h)
	if err == nil {
		err = c.settle(h, s.rots())
	}
	if err == nil {
		err = c.CheckRest(before)
	}
	if err != nil {
		return h, fmt.Errorf("seed %d: %w\nfaults:\n%s", c.opts.Seed, err, strings.Join(told, "\n"))
	}
	return h, nil
}

// mortalMax is the longest that a value of a story lives that expires.
const mortalMax = 8 * time.Second

func mortalTime(rng *rand.Rand) time.Duration {
	return (time.Duration(rng.Int64N(int64(mortalMax))) + time.Millisecond).Truncate(time.Millisecond)
}

// runStory runs clients and faults side by side and waits for the clients.
func (c *Cluster) runStory(s Story, h *History) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.Length)
	defer cancel()
	var clients sync.WaitGroup
	defer c.operators.Wait()
	defer clients.Wait()
	for i := range s.Clients {
		rng := c.Chance(fmt.Sprintf("client %d", i))
		cl, err := c.Client(h, nil)
		if err != nil {
			return nil, err
		}
		cl.padding = s.ValueSize
		clients.Go(func() {
			defer cl.Close()
			cl.work(ctx, s, rng)
		})
	}
	return c.befall(ctx, s.Steps)
}

// loses says that what one machine alone has kept may be lost.
func (s *Story) loses() bool { return s.rots() || s.hasOne([]Fault{removes, replaces}) }

// rots says that what lies on a disk may be damaged, and nobody knows yet.
func (s *Story) rots() bool { return s.hasOne(LossFaults()) }

// hasOne says that one of some faults is in the schedule.
func (s *Story) hasOne(faults []Fault) bool {
	return slices.ContainsFunc(s.Steps, func(step Step) bool {
		return slices.ContainsFunc(faults, func(f Fault) bool { return f.Name == step.Fault })
	})
}

// work does one operation after the other until the end.
func (c *Client) work(ctx context.Context, s Story, rng *rand.Rand) {
	for n := 0; ctx.Err() == nil; n++ {
		if rest(ctx, time.Duration(rng.Int64N(int64(s.Pause)))); ctx.Err() != nil {
			return
		}
		limit := 100*time.Millisecond + time.Duration(rng.Int64N(int64(3*time.Second)))
		level := client.Quorum
		if rng.IntN(8) == 0 && !s.loses() {
			level = []client.Level{client.One, client.All}[rng.IntN(2)]
		}
		key := rng.IntN(s.Keys)
		switch rng.IntN(5) {
		case 0:
			w := Write{Key: fmt.Sprintf("%s-%d", c.Name, n), Level: level, Limit: limit}
			if s.Mortal && rng.IntN(2) == 0 {
				w.Key, w.TTL = fmt.Sprintf("mortal%d", key), mortalTime(rng)
			}
			w.Sloppy = s.Sloppy && rng.IntN(2) == 0
			c.Write(w)
		case 1:
			if s.Mortal && rng.IntN(4) == 0 {
				c.Get(fmt.Sprintf("mortal%d", key), level, limit)
				continue
			}
			c.Put(fmt.Sprintf("blind%d", key), nil, level, limit)
		case 2:
			c.Get(fmt.Sprintf("blind%d", key), level, limit)
		default:
			k := fmt.Sprintf("key%d", key)
			if read := c.Get(k, level, limit); read.Context != nil {
				rest(ctx, time.Duration(rng.Int64N(int64(s.Pause))))
				switch {
				case ctx.Err() != nil: // for all clients at one instant, in no order
				case s.Strays && rng.IntN(16) == 0:
					c.Put(fmt.Sprintf("{%s}stray", k), read, level, limit) // of the same partition
				case s.Strays && rng.IntN(16) == 0:
					c.Put(fmt.Sprintf("{%s}stray", k), nil, level, limit)
				case rng.IntN(8) == 0:
					c.Delete(k, read, level, limit)
				default:
					w := Write{Key: k, After: read, Level: level, Limit: limit, Sloppy: s.Sloppy && rng.IntN(8) == 0}
					if s.Mortal && rng.IntN(16) == 0 {
						w.TTL = mortalTime(rng)
					}
					put := c.Write(w)
					for s.Chains && put.Outcome == Done && rng.IntN(2) == 0 {
						if rest(ctx, time.Duration(rng.Int64N(int64(s.Pause)))); ctx.Err() != nil {
							break
						}
						put = c.Put(k, put.Next(), level, limit)
					}
				}
			}
		}
	}
}
