package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
)

// Writers, other homes' merges and verdicts, purges, claims, losses and repairs at
// the same time: every writer finds its own writes, what was removed stays
// removed, and who follows the changes of clocks has seen them all in the end.
func TestRepairGoesOnBesideWrites(t *testing.T) {
	s := open(t, disk.New(1).Open(), small())
	ringOf(t, s, 4)
	again := rounds(150, 10_000)
	var wg sync.WaitGroup
	for p := range ring.Partition(4) {
		wg.Go(func() { putAndRead(t, s, p, again) })
		wg.Go(func() { buryAndForget(t, s, p, again) })
	}
	stop := make(chan struct{})
	var follower sync.WaitGroup
	follower.Go(func() { followClocks(t, s, stop) })
	wg.Go(func() { loseAndRepair(t, s, again/10) })
	wg.Wait()
	close(stop)
	follower.Wait()
	mustRepair(t, s, 0, 1, 2, 3)
	wantLossy(t, s)
	wantKeys(t, s, 4*9)
}

func putAndRead(t *testing.T, s *store.Store, p ring.Partition, rounds int) {
	r := rand.New(rand.NewPCG(uint64(p), 11))
	for i := range rounds {
		k := fmt.Sprint("k", i%9)
		o := start(s, blind(p, k, fmt.Sprint(i)))
		if err := o.wait(); err != nil {
			t.Error(err)
			return
		}
		if got, err := tryGet(s, p, k); err != nil || !slices.Equal(values(got), []string{fmt.Sprint(i)}) {
			t.Errorf("%s holds %q after put %d, %v", k, values(got), i, err)
			return
		}
		// A home that has incorporated nothing of it judges nothing.
		if err := sendVerdict(s, p, key(k), nil).wait(); err != nil {
			t.Error(err)
			return
		}
		if r.IntN(5) == 0 {
			_ = s.Health()
			_ = s.CountsForRead(p)
		}
	}
}

// buryAndForget writes, deletes and removes the keys of another home.
func buryAndForget(t *testing.T, s *store.Store, p ring.Partition, rounds int) {
	home := &elsewhere{actor: 77}
	for i := range rounds {
		era := s.Era()
		value := home.put(key(fmt.Sprint("g", i)), "v")
		gone := home.put(value, "")
		if err := errors.Join(startMerge(s, p, gone.Append(nil)).wait(), startMerge(s, p, value.Append(nil)).wait()); err != nil {
			t.Error(err)
			return
		}
		claimed := store.DotSet{{Actor: 77, Ranges: []store.Range{{First: 1, Last: home.last}}}}
		if err := s.Incorporate(p, claimed, era); err != nil && !errors.Is(err, store.ErrEra) {
			t.Error(err)
			return
		}
		ok, err := s.Purge(p, gone.Key, gone.Leaf(), 0)
		if !ok && err == nil { // there was a loss
			err = sendVerdict(s, p, key(string(gone.Key)), gone.Seen).wait()
		}
		got, readErr := tryGet(s, p, string(gone.Key))
		if err = errors.Join(err, readErr); err != nil || len(got.Siblings) > 0 {
			t.Errorf("%s holds %d siblings, %v", gone.Key, len(got.Siblings), err)
			return
		}
	}
}

func loseAndRepair(t *testing.T, s *store.Store, rounds int) {
	for range rounds {
		if err := s.DeclareLoss("test"); err != nil {
			t.Error(err)
			return
		}
		era := s.Era()
		for p := range ring.Partition(4) {
			if err := s.Repaired(p, era); err != nil {
				t.Error(err)
				return
			}
		}
	}
}

// followClocks copies clocks as another home does that looks at changes only.
func followClocks(t *testing.T, s *store.Store, stop <-chan struct{}) {
	copies := map[ring.Partition]store.Clock{}
	era, cursor := uint64(0), uint64(0)
	look := func() {
		now := s.Era()
		if now != era {
			era, cursor = now, 0
			clear(copies)
		}
		changed, next := s.ClocksChanged(cursor)
		for _, p := range changed {
			copies[p] = s.ClockOf(p)
		}
		cursor = next
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		look()
		select {
		case <-stop:
			look()
			for p := range ring.Partition(4) {
				now, c := s.ClockOf(p), copies[p]
				if more := now.Minus(&c); len(more) > 0 {
					t.Errorf("partition %d: changes were missed: %v", p, more)
				}
			}
			return
		case <-tick.C:
		}
	}
}
