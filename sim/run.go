package sim

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// Result is what became of a run.
type Result struct {
	Options Options
	Story   Story // with the steps that were played
	History *History
	// Err is the broken promise, with faults and story; nil if all held.
	Err error
	// EqualAfter is how long it took, once the cluster was healed, until it served
	// and all copies had become equal by themselves.
	EqualAfter time.Duration
	// Rings are the ring records that nodes have held.
	Rings *Rings
	// Log has the nodes' words.
	Log     string
	Virtual time.Duration
	Wall    time.Duration
}

// Run plays a story on a new cluster in a bubble of its own, from any program. It
// must not be called inside a bubble.
func Run(o Options, s Story) *Result {
	r := &Result{Options: o, Story: s, History: NewHistory()}
	began := time.Now()
	if Replays {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	}
	runtime.GC() // see Bubble
	runtime.GC()
	synctest.Test(&testing.T{}, func(*testing.T) {
		began := time.Now()
		r.play()
		r.Virtual = time.Since(began)
		time.Sleep(drained)
	})
	r.Wall = time.Since(began)
	return r
}

func (r *Result) play() {
	c, err := NewCluster(r.Options)
	if err != nil {
		r.Err = err
		return
	}
	r.Rings = c.rings
	defer func() {
		r.Log = c.Log()
		c.Close()
	}()
	if err := c.WaitReady(time.Minute); err != nil {
		r.Err = fmt.Errorf("seed %d: %w", r.Options.Seed, err)
		return
	}
	if r.Options.LyingDisks {
		for _, m := range c.Machines {
			m.Disk.Lie(true)
		}
	}
	r.Story.setDefaults(c)
	h, err := c.Play(r.Story)
	r.History, r.Err, r.EqualAfter = h, err, c.equalAfter
}

// Bites counts, for each kind of fault, the operations that were refused or
// unknown while one was on.
func (r *Result) Bites() map[string]int {
	out := map[string]int{}
	for _, s := range r.Story.Steps {
		from := r.History.began.Add(s.At)
		until := from.Add(s.For)
		for _, o := range r.History.Ops() {
			if o.Outcome != Done && o.Began.Before(until) && o.Ended.After(from) {
				out[s.Fault]++
			}
		}
	}
	return out
}

// Schedule gives the steps as text.
func (r *Result) Schedule() string {
	var lines []string
	for _, s := range r.Story.Steps {
		lines = append(lines, s.String())
	}
	return strings.Join(lines, "\n")
}

// checkRings wants one ring record at all machines, in the end.
func (c *Cluster) checkRings() error {
	var err error
	for range 100 {
		if err = c.oneRing(); err == nil {
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return broken(OneRing, "%v", err)
}

func (c *Cluster) oneRing() error {
	var first *ring.Record
	for _, m := range c.Machines {
		if m.retired {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		resp, err := api.Ring.Call(ctx, c.probe(), m.Peer(), &api.RingRequest{})
		cancel()
		if err != nil {
			return fmt.Errorf("ring of %s: %w", m.Name, err)
		}
		r, err := ring.Decode(resp.Record)
		if err != nil {
			return fmt.Errorf("ring of %s: %w", m.Name, err)
		}
		if first == nil {
			first = r
		}
		if c := cmp.Or(cmp.Compare(first.Epoch, r.Epoch), strings.Compare(string(first.Encode()), string(r.Encode()))); c != 0 {
			return fmt.Errorf("%s has another ring record of epoch %d than the first, of epoch %d", m.Name, r.Epoch, first.Epoch)
		}
	}
	return nil
}
