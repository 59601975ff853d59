package antientropy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/network"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// closingStory is a random history of three homes and a member that stands in, with
// real stores and what nodes run. Nodes lose power while their writes are under way,
// packets come minutes later or never.
type closingStory struct {
	w     *realWorld
	r     *rand.Rand
	homes []int
	stand int
	all   []closingWrite
	late  []closingLetterTo
}

// closingWrite is a write, and on how many disks it was when its minter counted.
type closingWrite struct {
	key    string
	record version.Record
	acked  bool
}

type closingLetterTo struct {
	to, meant int
	record    []byte
}

func (w *closingWrite) dot() version.Dot {
	last := w.record.Siblings[0].Dot
	for i := range w.record.Siblings {
		if s := &w.record.Siblings[i]; s.Stamp > w.record.Siblings[0].Stamp {
			last = s.Dot
		}
	}
	return last
}

// arrive gives a record to a node, as a copy or to be kept for a home, and says whether
// it took it.
func (s *closingStory) arrive(l closingLetterTo) bool {
	if !s.w.nodes[l.to].on {
		return false
	}
	var err error
	if l.to == s.stand {
		r, perr := version.Parse(l.record)
		if perr != nil {
			s.w.t.Fatal(perr)
		}
		done := make(chan outcome, 1)
		s.w.stores[l.to].StandIn(&store.StandIn{Home: s.w.nodes[l.meant].id, Partition: 0, Record: r, Encoded: l.record, Sink: mergeSink{0, done}})
		err = (<-done).err
	} else {
		err = s.w.send(l.to, l.record)
	}
	if err != nil && !errors.Is(err, store.ErrEnded) && !errors.Is(err, store.ErrEnding) {
		s.w.t.Fatal(err)
	}
	return err == nil
}

// write has a home mint. If it is to crash, that is before its disk has anything of it.
func (s *closingStory) write(crash bool) {
	i := s.homes[s.r.IntN(3)]
	if !s.w.nodes[i].on {
		return
	}
	var records [][]byte
	key := fmt.Sprint("k-", s.r.IntN(4))
	if crash {
		records = s.w.crash(i, key, fmt.Sprint("k-", s.r.IntN(4)))
	} else {
		records = [][]byte{s.w.mint(i, store.Put{Key: []byte(key), Value: fmt.Append(nil, len(s.all)), Tombstone: s.r.IntN(4) == 0})}
	}
	for _, b := range records {
		r, err := version.Parse(b)
		if err != nil {
			s.w.t.Fatal(err)
		}
		disks := 1
		for _, to := range append(slices.Clone(s.homes), s.stand) {
			l := closingLetterTo{to, s.homes[s.r.IntN(3)], b}
			switch n := s.r.IntN(10); {
			case to == i || to == s.stand && s.r.IntN(3) > 0:
			case n < 5:
				if s.arrive(l) {
					disks++
				}
			case n < 8:
				s.late = append(s.late, l)
			}
		}
		s.all = append(s.all, closingWrite{string(r.Key), r, !crash && disks >= 2})
	}
	if crash {
		s.w.startNode(i)
	}
}

func (s *closingStory) step() {
	i := s.r.IntN(4)
	switch n := s.r.IntN(20); {
	case n < 8:
		s.write(false)
	case n < 11:
		s.write(true)
	case n < 13 && len(s.late) > 0:
		at := s.r.IntN(len(s.late))
		s.arrive(s.late[at])
		s.late = slices.Delete(s.late, at, at+1)
	case n < 14:
		s.w.cut(i, s.r.IntN(4))
	case n < 16:
		s.w.net.Heal()
	case n < 17 && s.w.nodes[i].on:
		s.w.disks[i].PowerCut()
		s.w.stopNode(i)
		s.w.startNode(i)
	}
	time.Sleep([]time.Duration{time.Millisecond, time.Second, 7 * time.Second, 30 * time.Second}[s.r.IntN(4)])
}

// settles waits in virtual time until a condition holds that costs much to look at.
func (s *closingStory) settles(what string, cond func() error) {
	s.w.t.Helper()
	var err error
	for range 500 {
		if err = cond(); err == nil {
			return
		}
		time.Sleep(7 * time.Second)
	}
	s.w.t.Fatalf("%s: never: %v", what, err)
}

// judge says whether an acknowledged write is gone that nothing live has replaced, or
// one is back that an acknowledged write has.
func (s *closingStory) judge() error {
	live := map[version.Dot]bool{}
	for _, i := range s.homes {
		err := s.w.stores[i].Scan(0, nil, 0, func(_, b []byte) bool {
			r, err := version.Parse(b)
			if err != nil {
				s.w.t.Fatal(err)
			}
			for _, d := range dotsOf(&r) {
				live[d] = true
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	replaces := func(by, w *closingWrite) bool {
		d := w.dot()
		return by.key == w.key && by.dot() != d && by.record.Seen.Covers(d) && !slices.Contains(dotsOf(&by.record), d)
	}
	for i := range s.all {
		w := &s.all[i]
		if !w.acked {
			continue
		}
		there := live[w.dot()]
		for j := range s.all {
			by := &s.all[j]
			there = there || replaces(by, w) && live[by.dot()]
			if live[by.dot()] && replaces(w, by) {
				return fmt.Errorf("key %s: %v was replaced by %v, and is back", w.key, by.dot(), w.dot())
			}
		}
		if !there {
			return fmt.Errorf("key %s: %v is gone", w.key, w.dot())
		}
	}
	return nil
}

func TestClosingInAnyHistoryOfRealHomes(t *testing.T) {
	closed := int64(0)
	for seed := range uint64(histories(t, 12)) {
		inRealWorld(t, worldOptions{seed: seed + 100, nodes: 4, partitions: 1, tune: func(c *Config) {
			soonClosing(c)
			c.AuditEvery, c.ForgetAfter = time.Minute, 1000*time.Hour // deletes are there to be judged
		}}, func(w *realWorld) {
			s := &closingStory{w: w, r: rand.New(rand.NewPCG(seed, 9)), homes: w.homesOf(0)}
			s.stand = 6 - s.homes[0] - s.homes[1] - s.homes[2]
			w.startAll()
			for range 40 {
				s.step()
			}
			w.net.Heal()
			w.net.SetDefault(network.Link{Latency: time.Millisecond})
			s.settles("no hole", w.holed)
			for _, l := range s.late {
				s.arrive(l)
			}
			s.settles("equal, and no hole", func() error {
				if kept, err := w.stores[s.stand].StandInHomes(); err != nil || len(kept) > 0 {
					return fmt.Errorf("kept for %v: %v", kept, err)
				}
				return errors.Join(w.sameAt(s.homes), w.holed())
			})
			if err := s.judge(); err != nil {
				t.Fatalf("history %d: %v", seed, err)
			}
			for p := range ring.Partition(1) {
				ends, _ := w.stores[s.homes[0]].Endings(p)
				closed += int64(len(ends))
			}
		})
	}
	if closed == 0 {
		t.Error("nothing was closed in any history")
	}
	t.Logf("%d actors were closed", closed)
}

// sameAt says that some homes hold the same.
func (w *realWorld) sameAt(homes []int) error {
	first := w.content(homes[0])
	for _, i := range homes[1:] {
		other := w.content(i)
		if len(other) != len(first) {
			return fmt.Errorf("node %d has %d keys, node %d %d", homes[0], len(first), i, len(other))
		}
		for k, leaf := range first {
			if other[k] != leaf {
				return fmt.Errorf("key %s differs at node %d", k, i)
			}
		}
	}
	return nil
}
