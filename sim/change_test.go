package sim_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// changed plays a story with some changes of the ring in it, and gives the records
// that stood before and after, and how many slots were moved between.
func changed(t *testing.T, o sim.Options, steps string) (before, after *ring.Record, moved int, r *sim.Result) {
	t.Helper()
	parsed, err := sim.ParseSchedule(steps)
	check(t, err)
	r = sim.Run(o, sim.Story{Steps: parsed, Length: 25 * time.Second})
	if r.Err != nil {
		t.Fatalf("%v\n%s", r.Err, r.Log)
	}
	rings := r.Rings
	epochs := rings.Epochs()
	before, after = rings.At(epochs[0]), rings.At(epochs[len(epochs)-1])
	for i, epoch := range epochs[1:] {
		last, now := rings.At(epochs[i]), rings.At(epoch)
		for p := range ring.Partition(now.Partitions) {
			for slot, id := range now.Homes(p) {
				if last.Homes(p)[slot] != id {
					moved++
				}
			}
		}
	}
	return before, after, moved, r
}

func TestAMachineThatJoinsGetsItsShare(t *testing.T) {
	before, after, moved, _ := changed(t, sim.Options{Seed: 1, Nodes: 4}, "at 2s for 1s join 1")
	share := after.Partitions * after.Replicas / len(after.Members)
	if len(after.Members) != len(before.Members)+1 || moved < share || moved > share+1 {
		t.Errorf("%d members became %d, by %d moves; want %d more, by about %d", len(before.Members), len(after.Members), moved, 1, share)
	}
}

func TestAMachineThatLeavesHasNothingInTheEnd(t *testing.T) {
	before, after, moved, r := changed(t, sim.Options{Seed: 2}, "at 2s for 1s leave 7")
	if len(after.Members) != len(before.Members)-1 || moved == 0 || len(after.Banned) != 1 {
		t.Errorf("%d members became %d, by %d moves", len(before.Members), len(after.Members), moved)
	}
	if failed := r.History.Count(sim.Refused) + r.History.Count(sim.Unknown); failed > 0 {
		t.Errorf("%d operations failed, and nothing was wrong", failed)
	}
}

func TestADeadMachineIsRemovedAndAnEmptyOneTakesItsShare(t *testing.T) {
	before, after, moved, _ := changed(t, sim.Options{Seed: 3}, "at 2s for 20s removal 1")
	if len(after.Members) != len(before.Members) || moved == 0 || len(after.Banned) != 1 {
		t.Errorf("%d members became %d, by %d moves, %d are banned", len(before.Members), len(after.Members), moved, len(after.Banned))
	}
}

func TestAMachineOnStandbyTakesThePlaceOfAnother(t *testing.T) {
	before, after, moved, _ := changed(t, sim.Options{Seed: 4}, "at 2s for 1s replacement 1")
	if len(after.Members) != len(before.Members) || moved != before.Partitions*before.Replicas/len(before.Members) && moved == 0 {
		t.Errorf("%d members became %d, by %d moves", len(before.Members), len(after.Members), moved)
	}
	gone := slices.DeleteFunc(slices.Clone(before.Members), func(m ring.Member) bool { return after.Member(m.ID) != nil })
	if len(gone) != 1 || before.HomeCount(gone[0].ID) != moved {
		t.Errorf("%d are gone, who had other slots than the %d that were moved", len(gone), moved)
	}
}

func TestWeightsMoveSlots(t *testing.T) {
	before, after, moved, _ := changed(t, sim.Options{Seed: 5}, "at 2s for 1s weight 3\nat 6s for 1s weight 9")
	if moved == 0 || slices.EqualFunc(before.Members, after.Members, func(a, b ring.Member) bool { return a.Weight == b.Weight }) {
		t.Errorf("weights are as they were, and %d slots were moved", moved)
	}
}

// What operators want at the same time, and take back, comes to an end as well.
func TestContradictingOperatorsComeToAnEnd(t *testing.T) {
	for _, seed := range seeds(6) {
		var steps []string
		for i := range 6 {
			steps = append(steps, fmt.Sprintf("at %ds for 1s %s %d", 1+2*i, []string{"contradiction", "join", "abort"}[i%3], seed*100+uint64(i)))
		}
		changed(t, sim.Options{Seed: seed, Nodes: 5}, strings.Join(steps, "\n"))
	}
}

// sink hands over what became of a merge.
type sink chan error

// Committed implements store.MergeSink.
func (s sink) Committed(err error) { s <- err }

// The check of the end finds what is left behind.
func TestWhatIsLeftBehindByAChangeIsFound(t *testing.T) {
	in(t, sim.Options{Seed: 6}, func(t *testing.T, c *sim.Cluster) {
		check(t, c.CheckSettled(time.Second))
		unsettled := func(why string) {
			t.Helper()
			var b *sim.Broken
			if err := c.CheckSettled(time.Second); !errors.As(err, &b) || b.Promise != sim.ChangesEnd || !strings.Contains(err.Error(), why) {
				t.Errorf("got %v, want %q", err, why)
			}
		}
		h := sim.NewHistory()
		cl := must(c.Client(h, nil))
		defer cl.Close()
		load(t, cl, "k", 30)

		leaver := c.Machines[4]
		leaver.Pause()
		must(c.Change(0, api.ChangeRequest{Verb: api.VerbWeight, Member: leaver.ID().String(), Number: 3}))
		unsettled("slots are")
		leaver.Resume()
		check(t, c.CheckSettled(time.Minute))

		key, homes := keyWith(t, c, func(homes []int) bool { return !slices.Contains(homes, 0) })
		want(t, cl.Put(key, nil, client.Quorum, 5*time.Second), sim.Done)
		p := must(c.Ring()).PartitionOf([]byte(key))
		encoded := must(c.Machines[homes[0]].Node().Store().Get(p, []byte(key)))
		done := make(sink, 1)
		c.Machines[0].Node().Store().Merge(&store.Merge{Partition: p, Record: must(version.Parse(encoded)), Encoded: encoded, Sink: done})
		check(t, <-done)
		unsettled("is no home of partition")
	})
}
