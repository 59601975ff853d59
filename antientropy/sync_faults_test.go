package antientropy

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/network"
)

// interruptions is how many there are in a long run, half as many under the race detector;
// KITH_LONG=n makes n times as many.
func interruptions() int {
	n := 12
	if raced {
		n = 6
	}
	if long, err := strconv.Atoi(os.Getenv("KITH_LONG")); err == nil && long > 0 {
		n *= long
	}
	return n
}

// Either end of a pull is killed or loses power again and again, wherever it is. What is
// noted then is held, always; each time that all is, the move is aborted and begins anew.
// In the end the pull comes to its end, and the one that hands the slot over, too.
func TestFault19_PullsForMovesAreNotedOnlyWhenAllIsHeld(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 31}, func(w *moveWorld) {
		chance := rand.New(rand.NewPCG(31, 1))
		time.Sleep(5 * time.Second)
		w.fill(150, 40<<10, w.a)
		w.net.SetDefault(network.Link{Latency: 3 * time.Millisecond, Jitter: time.Millisecond, Bandwidth: 8 << 20})
		w.step(ring.StepDual, w.everybody()...)
		atFence := w.held(w.from)
		deaths, middles := interruptions(), 0
		for n := range deaths {
			if !w.noted(w.to) {
				w.step(ring.StepAbort, w.everybody()...)
				w.step(ring.StepDual, w.everybody()...)
				atFence = w.held(w.from)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- w.nodes[w.to].repair.Sync(ctx, w.pull(w.from)) }()
			had := w.nodes[w.to].repair.SyncBytes()
			wait := time.Now().Add(time.Duration(chance.IntN(1000)) * time.Millisecond)
			for time.Now().Before(wait) && len(ended) == 0 {
				time.Sleep(time.Millisecond)
			}
			if len(ended) == 0 && w.nodes[w.to].repair.SyncBytes() > had {
				middles++
			}
			dies := []int{w.to, w.to, w.from}[chance.IntN(3)]
			if platter := w.nodes[dies].disk.platter; chance.IntN(2) == 0 {
				platter.PowerCut()
			} else {
				platter.Kill()
			}
			cancel()
			w.halt(dies)
			<-ended
			w.nodes[dies].disk.platter.Heal()
			w.start(dies)
			if !w.noted(w.to) {
				if err := w.has(w.to, atFence); err != nil {
					w.t.Fatalf("after death %d: noted, but %v", n+1, err)
				}
			}
			time.Sleep(2 * time.Second)
		}
		if middles < deaths/4 {
			w.t.Errorf("%d deaths in the middle of %d: that proves little", middles, deaths)
		}
		for _, late := range []bool{false, true} {
			w.eventually(10*time.Minute, "pulled", func() error { return w.sync(w.to, w.from) })
			if err := w.has(w.to, atFence); err != nil || !w.noted(w.to, w.from) {
				w.t.Errorf("in the end, late %v: %v", late, err)
			}
			if !late {
				w.nodes[w.from].put("late", "only at the source", true, false)
				w.step(ring.StepReadNew, w.everybody()...)
				atFence = w.held(w.from)
			}
		}
	})
}

// A move is turned back after the target has answered reads: the home that had the slot
// pulls what came to the target alone, and nothing else.
func TestAHomePullsBackWhatTheTargetHas(t *testing.T) {
	inMoveWorld(t, worldOptions{seed: 32}, func(w *moveWorld) {
		time.Sleep(5 * time.Second)
		w.fill(100, 40<<10, w.a, w.b)
		w.step(ring.StepDual, w.everybody()...)
		w.mustSync(w.to, w.from)
		w.step(ring.StepReadNew, w.everybody()...)
		w.mustSync(w.to, w.from)
		late := w.nodes[w.a].put("late", "v", true, false)
		w.deliver(late, w.to)
		w.step(ring.StepBack, w.to, w.from)
		if w.sync(w.to, w.from) != nil { // of no use, and no harm
			w.t.Error("the target cannot pull any more")
		}
		home := w.nodes[w.from].repair
		w.mustSync(w.from, w.to)
		if err := w.has(w.from, w.held(w.to)); err != nil {
			w.t.Error(err)
		}
		if n := home.SyncBytes(); !w.noted(w.from, w.to) || n == 0 || n > 1<<20 {
			w.t.Errorf("%d bytes were pulled back; noted %+v", n, w.nodes[w.from].disk.Pulled(movedPartition))
		}
		w.step(ring.StepAbort, w.everybody()...)
		if n := len(w.held(w.to)); n != 0 {
			w.t.Errorf("the target holds %d records of a move that was aborted", n)
		}
		if _, err := home.Audit(int(movedPartition)); err != nil {
			w.t.Error(err)
		}
	})
}
