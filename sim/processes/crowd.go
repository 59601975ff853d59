package processes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

const (
	crowdSize = 3
	crowdKeys = 3 // that all fight over with contexts, and as many blindly
	crowdRest = 250 * time.Millisecond
)

// crowd lets clients that know all nodes work until stop is called, which waits
// for them.
func (p *play) crowd() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range crowdSize {
		var nodes []int
		for n := range p.names {
			nodes = append(nodes, (n+i)%len(p.names))
		}
		c, err := p.world.Dial(p.history, nil, nodes...)
		if err != nil {
			p.check("clients can be made", false, "%v", err)
			continue
		}
		c.Name = fmt.Sprintf("w%d", i+1)
		all.Go(func() {
			defer c.Close()
			p.work(ctx, c, rand.New(rand.NewPCG(uint64(i), 0x63726f7764))) // "crowd"
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// sharedKey is one that all clients fight over.
func sharedKey(n int) string { return fmt.Sprintf("shared %d", n) }

// work does one operation after the other.
func (p *play) work(ctx context.Context, c *sim.Client, rng *rand.Rand) {
	for n := 0; ctx.Err() == nil; n++ {
		rest(ctx, time.Duration(rng.Int64N(int64(crowdRest))))
		level := client.Quorum
		if rng.IntN(8) == 0 {
			level = client.One
		}
		m := meta{level: levelName(level)}
		limit := time.Second + time.Duration(rng.Int64N(int64(2*time.Second)))
		key := rng.IntN(crowdKeys)
		switch rng.IntN(5) {
		case 0:
			p.note(c.Put(fmt.Sprintf("%s alone %d", c.Name, n), nil, level, limit), m)
		case 1:
			p.note(c.Put(fmt.Sprintf("blind %d", key), nil, level, limit), m)
		case 2:
			p.note(c.Get(fmt.Sprintf("blind %d", key), level, limit).Op, m)
		default:
			k := sharedKey(key)
			read := c.Get(k, level, limit)
			p.note(read.Op, m)
			if read.Context == nil {
				continue
			}
			rest(ctx, time.Duration(rng.Int64N(int64(crowdRest))))
			if rng.IntN(8) == 0 {
				p.note(c.Delete(k, read, level, limit), m)
			} else {
				p.note(c.Put(k, read, level, limit), m)
			}
		}
	}
}

// crowdDone is the share of the crowd's operations since a moment that were done.
func (p *play) crowdDone(since time.Time) (share float64, all int) {
	done := 0
	p.mu.Lock()
	defer p.mu.Unlock()
	for op := range p.metas { // those that have ended
		if op.Client[0] != 'w' || op.Began.Before(since) {
			continue
		}
		all++
		if op.Outcome == sim.Done {
			done++
		}
	}
	return float64(done) / max(1, float64(all)), all
}
