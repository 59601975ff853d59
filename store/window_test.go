package store

import (
	"testing"
	"testing/synctest"
	"time"
)

// rounds plays callers that each send their next operation at once when the one
// before is done; early of them are there while the disk still works.
// It gives the size of the last batch, and how long that waited.
func rounds(w *window, callers, early, batches int) (size int, waited time.Duration) {
	waiting := early
	for range batches {
		born := time.Now()
		for came := false; !w.over(waiting); came = true {
			if !came {
				time.Sleep(100 * time.Microsecond)
				waiting = callers // the others come
				continue
			}
			<-w.timer.C
			w.elapsed()
		}
		waited = time.Since(born)
		size = waiting
		w.sent(size)
		time.Sleep(300 * time.Microsecond) // the disk
		waiting = early
		w.learn(size, waiting)
	}
	return size, waited
}

func TestWindowNeverHoldsALoneWriterBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow()
		start := time.Now()
		for range 100 {
			if !w.over(1) {
				t.Fatal("the only caller waits for others")
			}
			w.sent(1)
			w.learn(1, 0)
		}
		if took := time.Since(start); took != 0 {
			t.Fatalf("100 writes waited %v", took)
		}
	})
}

func TestWindowGathersAllWhoKeepComing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow()
		size, waited := rounds(&w, 40, 10, 200)
		if size < 35 {
			t.Fatalf("40 callers share batches of %d", size)
		}
		if waited > 200*time.Microsecond {
			t.Fatalf("batches of all callers still wait for %v", waited)
		}
	})
}

func TestWindowGivesUpOnCallersThatAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow()
		rounds(&w, 48, 12, 200)
		begin := time.Now()
		if size, _ := rounds(&w, 5, 5, 1); size != 5 {
			t.Fatalf("a batch of %d by 5 callers", size)
		}
		if took := time.Since(begin); took > windowMax {
			t.Fatalf("5 callers waited %v for others, at most %v", took, windowMax)
		}
		if _, waited := rounds(&w, 5, 5, 1); waited != 0 {
			t.Fatalf("5 callers wait %v a second time for those that are gone", waited)
		}
	})
}

func TestWindowNeverWaitsLongAfterTheLastBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow()
		rounds(&w, 48, 12, 200)
		time.Sleep(windowMax)
		if !w.over(1) {
			t.Fatal("the first write after a pause waits")
		}
		w.sent(1)
		w.learn(1, 48)
		// One more comes every now and then: the wait is bounded.
		w.target = 48
		for ops, begin := 1, time.Now(); !w.over(ops); ops++ {
			<-w.timer.C
			w.elapsed()
			if took := time.Since(begin); took > windowMax+windowQuiet {
				t.Fatalf("a batch waits since %v", took)
			}
		}
	})
}
