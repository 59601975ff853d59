package antientropy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/network"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// moveWorld is a world of five members, all stores real, in which one slot of its only
// partition moves.
type moveWorld struct {
	*world
	a, b     int // the other homes
	from, to int
}

const movedPartition ring.Partition = 0

// inMoveWorld runs f before the move begins.
func inMoveWorld(t *testing.T, o worldOptions, f func(w *moveWorld)) {
	t.Helper()
	o.nodes, o.replicas, o.partitions, o.real = 5, 3, 1, true
	inWorld(t, o, func(inner *world) {
		homes := inner.homesOf(movedPartition)
		w := &moveWorld{world: inner}
		for i, id := range inner.rec.Homes(movedPartition) {
			at := slices.IndexFunc(homes, func(h int) bool { return inner.nodes[h].id == id })
			*[]*int{&w.a, &w.b, &w.from}[i] = homes[at]
		}
		w.to = slices.IndexFunc(inner.nodes, func(h *home) bool { return inner.rec.HomeIndex(movedPartition, h.id) < 0 })
		f(w)
	})
}

// step makes the record of the move's next step, and has some nodes adopt it.
func (w *moveWorld) step(s ring.Step, nodes ...int) *ring.Record {
	w.t.Helper()
	next, err := w.rec, error(nil)
	if next.MoveOf(movedPartition) == nil {
		next, err = next.WithMoves([]ring.Move{{Partition: movedPartition, Slot: 2, To: w.nodes[w.to].id}})
	}
	if err == nil {
		next, err = next.WithSteps([]ring.StepTo{{Partition: movedPartition, Step: s}})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.rec = next
	for _, i := range nodes {
		w.nodes[i].take(next)
	}
	return next
}

func (w *moveWorld) everybody() []int { return []int{0, 1, 2, 3, 4} }

// pull is what the target has to do.
func (w *moveWorld) pull(from ...int) ring.Pull {
	p := ring.Pull{Partition: movedPartition, Since: w.rec.Since[movedPartition]}
	for _, i := range from {
		p.From = append(p.From, w.nodes[i].id)
	}
	return p
}

// sync has a node pull, at most for two minutes.
func (w *moveWorld) sync(i int, from ...int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return w.nodes[i].repair.Sync(ctx, w.pull(from...))
}

func (w *moveWorld) mustSync(i int, from ...int) {
	w.t.Helper()
	if err := w.sync(i, from...); err != nil {
		w.t.Fatal(err)
	}
}

// noted says whether a node has noted exactly these sources under the move's epoch.
func (w *moveWorld) noted(i int, from ...int) bool {
	note := w.nodes[i].disk.Pulled(movedPartition)
	want := w.pull(from...).From
	slices.SortFunc(want, ring.NodeID.Compare)
	if len(from) == 0 {
		return len(note.From) == 0 || note.Since != w.rec.Since[movedPartition]
	}
	return note.By == w.nodes[i].id && note.Since == w.rec.Since[movedPartition] && slices.Equal(note.From, want)
}

// held is what a node holds.
func (w *moveWorld) held(i int) map[string]version.Record {
	out := map[string]version.Record{}
	w.eventually(10*time.Minute, "what was let go is handed over", func() error {
		err := w.nodes[i].disk.Scan(movedPartition, nil, 1, func(_, _ []byte) bool { return true })
		if !errors.Is(err, store.ErrDropping) {
			return nil
		}
		return err
	})
	err := w.nodes[i].disk.Scan(movedPartition, nil, 0, func(key, encoded []byte) bool {
		r, err := version.Parse(encoded)
		if err != nil {
			w.t.Error(err)
			return false
		}
		out[string(key)] = r
		return true
	})
	if err != nil {
		w.t.Error(err)
	}
	return out
}

// has says what a node lacks of some records: everything that they hold it has, or has
// seen replaced.
func (w *moveWorld) has(i int, all map[string]version.Record) error {
	mine := w.held(i)
	for key, r := range all {
		have := mine[key]
		for _, s := range r.Siblings {
			if !have.Seen.Covers(s.Dot) && !slices.ContainsFunc(have.Siblings, func(x version.Sibling) bool { return x.Dot == s.Dot }) {
				return fmt.Errorf("node %d lacks the write %v of key %q", i, s.Dot, key)
			}
		}
	}
	return nil
}

// fill writes some keys at the home that gives its slot away, and at others.
func (w *moveWorld) fill(keys, size int, to ...int) {
	for k := range keys {
		w.write(w.from, fmt.Sprintf("k-%04d", k), string(make([]byte, size)), to...)
	}
}

// What the source held when it answered first is held by the target when the pull is
// noted, whoever writes meanwhile, and however the network behaves.
func TestSyncedTargetHoldsWhatItsSourceHeld(t *testing.T) {
	for seed := range uint64(realSeeds(t, 6)) {
		inMoveWorld(t, worldOptions{seed: seed + 1}, func(w *moveWorld) {
			chance := rand.New(rand.NewPCG(seed, 1))
			time.Sleep(5 * time.Second)
			w.fill(300, 40<<10, w.a)
			link := network.Link{Latency: 2 * time.Millisecond, Jitter: 3 * time.Millisecond, Loss: 0.01, Duplicate: 0.05}
			w.net.SetDefault(link)
			var atFence map[string]version.Record
			w.nodes[w.from].learned = func() { atFence = w.held(w.from) }
			w.step(ring.StepDual, w.to)
			stop, ended := make(chan struct{}), make(chan struct{})
			go func() { // writes, of which the target gets some
				defer close(ended)
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(chance.IntN(20)) * time.Millisecond):
					}
					at := []int{w.from, w.a}[n%2]
					b := w.nodes[at].put(fmt.Sprintf("k-%04d", chance.IntN(400)), fmt.Sprint("new ", n), chance.IntN(2) == 0, chance.IntN(4) == 0)
					if chance.IntN(2) == 0 && b != nil {
						w.deliver(b, w.to)
					}
				}
			}()
			err := w.sync(w.to, w.from)
			close(stop)
			<-ended
			if err != nil || !w.noted(w.to, w.from) {
				w.t.Fatalf("%v; noted %+v", err, w.nodes[w.to].disk.Pulled(movedPartition))
			}
			if atFence == nil {
				w.t.Fatal("the source has not learned the record")
			}
			if err := w.has(w.to, atFence); err != nil {
				w.t.Error(err)
			}
			if n := w.nodes[w.to].repair.SyncBytes(); n < 4<<20 {
				w.t.Errorf("%d bytes were pulled", n)
			}
			// The second pull of the move brings what only the source has, and little else.
			b := w.nodes[w.from].put("late", "only at the source", true, false)
			w.step(ring.StepReadNew, w.to)
			before := w.nodes[w.to].repair.SyncBytes()
			w.mustSync(w.to, w.from)
			if err := w.has(w.to, w.held(w.from)); err != nil {
				w.t.Error(err)
			}
			if more := w.nodes[w.to].repair.SyncBytes() - before; b == nil || more == 0 || more > 2<<20 {
				w.t.Errorf("the second pull brought %d bytes", more)
			}
			if n := w.nodes[w.to].repair.Status().Scans; n != 0 {
				w.t.Errorf("a move has scanned its partition, and %d scans are told as those of catch-up", n)
			}
		})
	}
}

// A source that holds an older record learns the newer one before it answers, and
// refuses what is older from then on.
func TestSyncIsAFenceForItsSource(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 7}, func(w *moveWorld) {
		w.fill(10, 100)
		dual := w.step(ring.StepDual, w.to)
		w.mustSync(w.to, w.from)
		h := w.nodes[w.from]
		if got := h.disk.Fence(movedPartition); got != dual.Epoch || h.Current().Epoch != dual.Epoch {
			w.t.Errorf("its fence is %d, its record that of epoch %d, want %d", got, h.Current().Epoch, dual.Epoch)
		}
	})
}

// A source whose record is newer than the pull refuses it, also when it becomes newer
// in the middle: what it dropped by then would be missing.
func TestSyncIsRefusedByANewerFence(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 8}, func(w *moveWorld) {
		w.fill(200, 40<<10)
		w.step(ring.StepDual, w.everybody()...)
		pull := w.pull(w.from)
		w.net.SetDefault(network.Link{Latency: 5 * time.Millisecond})
		ended := make(chan error, 1)
		go func() { ended <- w.nodes[w.to].repair.Sync(context.Background(), pull) }()
		w.eventually(time.Minute, "pages come", func() error {
			if w.nodes[w.to].repair.SyncBytes() == 0 {
				return errors.New("none")
			}
			return nil
		})
		w.step(ring.StepAbort, w.from)
		if err := <-ended; !errors.Is(err, api.ErrFenced) || !w.noted(w.to) {
			w.t.Errorf("in the middle: %v; noted %+v", err, w.nodes[w.to].disk.Pulled(movedPartition))
		}
		if err := w.nodes[w.to].repair.Sync(context.Background(), pull); !errors.Is(err, api.ErrFenced) {
			w.t.Errorf("from the beginning: %v", err)
		}
		w.nodes[w.to].take(w.rec)
		if err := w.nodes[w.to].repair.Sync(context.Background(), pull); !errors.Is(err, api.ErrFenced) {
			w.t.Errorf("at the asker itself: %v", err)
		}
		if n := len(w.held(w.to)); n != 0 {
			w.t.Errorf("%d records are left of a move that was aborted", n)
		}
	})
}

// A source that has lost something gives nothing; nor does one that loses something
// after it has told its clock.
func TestSyncIsRefusedByALossySource(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 9}, func(w *moveWorld) {
		w.cut(w.from, w.a) // nobody fills it again
		w.cut(w.from, w.b)
		w.fill(200, 40<<10)
		w.step(ring.StepDual, w.everybody()...)
		w.net.SetLink(w.nodes[w.from].host.Name(), w.nodes[w.to].host.Name(), network.Link{Latency: 20 * time.Millisecond})
		ended := make(chan error, 1)
		go func() { ended <- w.sync(w.to, w.from) }()
		w.eventually(time.Minute, "pages come", func() error {
			if w.nodes[w.to].repair.SyncBytes() == 0 {
				return errors.New("none")
			}
			return nil
		})
		if err := w.nodes[w.from].disk.DeclareLossOf(movedPartition, "test"); err != nil {
			w.t.Fatal(err)
		}
		if err := <-ended; err == nil || !w.noted(w.to) {
			w.t.Errorf("in the middle: %v; noted %+v", err, w.nodes[w.to].disk.Pulled(movedPartition))
		}
		if err := w.sync(w.to, w.from); !errors.Is(err, api.ErrLossy) || !w.noted(w.to) {
			w.t.Errorf("from the beginning: %v", err)
		}
		if err := w.sync(w.to, w.a, w.b); err != nil || !w.noted(w.to, w.a, w.b) {
			w.t.Errorf("from the others: %v", err)
		}
	})
}

// A target that loses something in the middle notes nothing of what it pulled before;
// it counts again when it has pulled everything anew.
func TestSyncIsVoidAfterALossOfTheTarget(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 10}, func(w *moveWorld) {
		w.fill(200, 40<<10, w.a, w.b)
		w.step(ring.StepDual, w.everybody()...)
		w.net.SetDefault(network.Link{Latency: 5 * time.Millisecond})
		ended := make(chan error, 1)
		go func() { ended <- w.sync(w.to, w.from) }()
		w.eventually(time.Minute, "pages come", func() error {
			if w.nodes[w.to].repair.SyncBytes() == 0 {
				return errors.New("none")
			}
			return nil
		})
		target := w.nodes[w.to]
		if err := target.disk.DeclareLossOf(movedPartition, "test"); err != nil {
			w.t.Fatal(err)
		}
		if err := <-ended; err == nil || !w.noted(w.to) {
			w.t.Errorf("%v; noted %+v", err, target.disk.Pulled(movedPartition))
		}
		time.Sleep(10 * time.Second)
		if target.disk.CountsForRead(movedPartition) {
			w.t.Error("it counts for reads although nothing was pulled since")
		}
		if err := w.sync(w.to, w.a); err == nil || !w.noted(w.to) {
			w.t.Errorf("one home that was no end of the move was enough: %v", err)
		}
		w.mustSync(w.to, w.from)
		if !w.noted(w.to, w.from) || !target.disk.CountsForRead(movedPartition) {
			w.t.Errorf("after a whole pull: noted %+v, counts %v", target.disk.Pulled(movedPartition), target.disk.CountsForRead(movedPartition))
		}
		if err := w.has(w.to, w.held(w.from)); err != nil {
			w.t.Error(err)
		}
	})
}

// A pull that was cut off goes on where it was; one whose source was started anew begins
// again, and both come to their end.
func TestFault53_SyncGoesOnAfterInterruptions(t *testing.T) {
	const keys, size = 400, 40 << 10
	for _, restart := range []bool{false, true} {
		inMoveWorld(t, worldOptions{seed: 11}, func(w *moveWorld) {
			w.fill(keys, size)
			w.step(ring.StepDual, w.everybody()...)
			w.net.SetDefault(network.Link{Latency: 5 * time.Millisecond})
			interrupted := 0
			for try := 0; ; try++ {
				if try == 100 {
					w.t.Fatal("it does not come to an end")
				}
				ended := make(chan error, 1)
				go func() { ended <- w.sync(w.to, w.from) }()
				had := w.nodes[w.to].repair.SyncBytes()
				for len(ended) == 0 && (w.nodes[w.to].repair.SyncBytes() < had+4<<20 || interrupted == 3) {
					time.Sleep(time.Millisecond)
				}
				if len(ended) == 0 {
					interrupted++
					if restart {
						w.halt(w.from)
						w.start(w.from)
					} else {
						w.cut(w.from, w.to)
						time.Sleep(30 * time.Second)
						w.net.Heal()
					}
				}
				if err := <-ended; err == nil {
					break
				}
				time.Sleep(10 * time.Second)
			}
			if interrupted < 3 || !w.noted(w.to, w.from) {
				w.t.Errorf("interrupted %d times; noted %+v", interrupted, w.nodes[w.to].disk.Pulled(movedPartition))
			}
			if err := w.has(w.to, w.held(w.from)); err != nil {
				w.t.Error(err)
			}
			if n := w.nodes[w.to].repair.SyncBytes(); !restart && n > keys*(size+1000)+8<<20 {
				w.t.Errorf("%d bytes were pulled of %d", n, keys*size)
			}
		})
	}
}

// Without the home that gives its slot away, the target pulls from enough of the others,
// and has what any of them held.
func TestSyncFromOtherHomesUnitesThem(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 12}, func(w *moveWorld) {
		w.cut(w.a, w.b)
		w.cut(w.b, w.a)
		for k := range 60 {
			at := []int{w.a, w.b}[k%2]
			w.nodes[at].put(fmt.Sprintf("k-%d", k), "replaced", true, false)
			w.nodes[at].put(fmt.Sprintf("k-%d", k), "v", true, k%5 == 0)
		}
		w.halt(w.from)
		w.step(ring.StepDual, w.to, w.a, w.b)
		w.mustSync(w.to, w.a, w.b)
		for _, i := range []int{w.a, w.b} {
			if err := w.has(w.to, w.held(i)); err != nil {
				w.t.Error(err)
			}
			own, theirs := w.nodes[w.to].disk.ClockOf(movedPartition), w.nodes[i].disk.ClockOf(movedPartition)
			if left := theirs.Minus(&own); len(left) > 0 {
				w.t.Errorf("the target does not claim %v of node %d", left, i)
			}
		}
	})
}

// Pulls that nobody has to make are refused.
func TestSyncWithoutAMoveIsRefused(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 13}, func(w *moveWorld) {
		stranger := 10 - w.a - w.b - w.from - w.to
		if err := w.sync(w.to, w.from); !errors.Is(err, api.ErrNotHome) {
			w.t.Errorf("by somebody who does not hold the partition: %v", err)
		}
		w.step(ring.StepDual, w.everybody()...)
		if err := w.sync(w.to, stranger); !errors.Is(err, api.ErrNotHome) {
			w.t.Errorf("from somebody who does not hold the partition: %v", err)
		}
		if err := w.sync(w.to, w.to); !errors.Is(err, api.ErrBadRequest) {
			w.t.Errorf("from itself: %v", err)
		}
		pull := w.pull(w.from)
		pull.Partition = 1
		if err := w.nodes[w.to].repair.Sync(context.Background(), pull); !errors.Is(err, api.ErrBadRequest) {
			w.t.Errorf("of a partition that does not exist: %v", err)
		}
	})
}

// midway is a store in which something happens while it is read.
type midway struct {
	Store
	happens atomic.Pointer[func()]
}

// Scan implements Store.
func (m *midway) Scan(p ring.Partition, after []byte, limit int, each func(key, record []byte) bool) error {
	return m.Store.Scan(p, after, limit, func(key, record []byte) bool {
		more := each(key, record)
		if happens := m.happens.Swap(nil); happens != nil {
			(*happens)()
		}
		return more
	})
}

// The fence is checked when all was read, too: the one page that there is was read while
// the source adopted a newer record, or lost something.
func TestSyncIsCheckedBehindTheReading(t *testing.T) {
	for _, fences := range []bool{true, false} {
		inMoveWorld(t, worldOptions{seed: 14, stopped: true}, func(w *moveWorld) {
			source := w.nodes[w.from]
			between := new(midway)
			source.tune = func(c *Config) {
				between.Store = c.Store
				c.Store = between
			}
			for _, i := range w.everybody() {
				w.start(i)
			}
			w.fill(3, 100)
			w.step(ring.StepDual, w.everybody()...)
			pull := w.pull(w.from)
			happens := func() {
				if fences {
					w.step(ring.StepReadNew, w.from)
				} else if err := source.disk.DeclareLossOf(movedPartition, "test"); err != nil {
					w.t.Error(err)
				}
			}
			between.happens.Store(&happens)
			err := w.nodes[w.to].repair.Sync(context.Background(), pull)
			if between.happens.Load() != nil {
				w.t.Fatal("nothing was read")
			}
			if fences && !errors.Is(err, api.ErrFenced) || !fences && err == nil {
				w.t.Errorf("fences %v: %v", fences, err)
			}
			if note := w.nodes[w.to].disk.Pulled(movedPartition); len(note.From) > 0 {
				w.t.Errorf("fences %v: noted %+v", fences, note)
			}
		})
	}
}
