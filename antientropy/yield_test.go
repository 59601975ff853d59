package antientropy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// servingPacer yields to so many requests a second, once it has seen them.
func servingPacer(perSecond int) (*pacer, *atomic.Uint64) {
	served := new(atomic.Uint64)
	p := newPacer(1<<30, &loadedCircuits{}, served.Load)
	p.yielding()
	time.Sleep(time.Second)
	served.Add(uint64(perSecond))
	return p, served
}

func TestRepairRestsOnlyWhileRequestsAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, served := servingPacer(100)
		began := time.Now()
		if err := p.rest(context.Background(), 5*time.Millisecond); err != nil || time.Since(began) != 10*time.Millisecond {
			t.Errorf("rested %v beside requests, %v", time.Since(began), err)
		}
		if p.burst() != burstYielding || p.pageMax() != pageYielding {
			t.Errorf("bursts of %d, pages of %d beside requests", p.burst(), p.pageMax())
		}
		time.Sleep(time.Second)
		served.Add(3) // somebody looks at something
		began = time.Now()
		if err := p.rest(context.Background(), 5*time.Millisecond); err != nil || time.Since(began) != 0 {
			t.Errorf("rested %v alone, %v", time.Since(began), err)
		}
		if p.burst() != burstAlone || p.pageMax() != pullItemsMax {
			t.Errorf("bursts of %d, pages of %d alone", p.burst(), p.pageMax())
		}
	})
}

func TestRepairFromManyPartnersWorksHalfOfTheTimeBesideRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, served := servingPacer(1000)
		var worked atomic.Int64
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var running sync.WaitGroup
		running.Go(func() {
			for sleep(ctx, time.Millisecond) == nil {
				served.Add(1)
			}
		})
		for range 8 {
			running.Go(func() {
				for ctx.Err() == nil {
					time.Sleep(5 * time.Millisecond)
					worked.Add(int64(5 * time.Millisecond))
					// A context of its own: the rest is not to be short for want of time.
					if p.rest(context.WithoutCancel(ctx), 5*time.Millisecond) != nil {
						return
					}
				}
			})
		}
		running.Wait()
		if part := float64(worked.Load()) / float64(time.Minute); part < 0.45 || part > 0.55 {
			t.Errorf("worked %.2f of the time, want a half", part)
		}
	})
}

func TestRepairDoesNotRestInACallThatIsAboutToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := servingPacer(100)
		ctx, cancel := context.WithTimeout(context.Background(), restBefore-time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := p.rest(ctx, time.Second); err != nil || time.Since(began) != 0 {
			t.Errorf("rested %v, %v", time.Since(began), err)
		}
	})
}

func TestRestIsBoundedAndEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := servingPacer(100)
		began := time.Now()
		if err := p.rest(context.Background(), time.Hour); err != nil || time.Since(began) != restMax {
			t.Errorf("rested %v, %v", time.Since(began), err)
		}
		p, _ = servingPacer(100)
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Millisecond, cancel)
		began = time.Now()
		if err := p.rest(ctx, 50*time.Millisecond); !errors.Is(err, context.Canceled) || time.Since(began) != time.Millisecond {
			t.Errorf("rested %v, %v", time.Since(began), err)
		}
	})
}
