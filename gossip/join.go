package gossip

import (
	"context"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// Alone, a node tries every second at first, later every ten.
	aloneMin = time.Second
	aloneMax = 10 * time.Second
	// With somebody to talk to, one absent peer is tried in every 10 to 30 s.
	searchMin = 10 * time.Second
	searchMax = 30 * time.Second
)

// joiner looks for peers: by the seeds until they are met, by the book for
// ever. It is the only one that calls serf.Join, which must not run twice.
type joiner struct {
	c       *Cluster
	rng     *rand.Rand
	reached map[string]bool // seed addresses that answered in this life
	backoff time.Duration
}

// chance gives a loop its own generator, from the node's seed and its name.
func chance(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

func (c *Cluster) joinLoop(ctx context.Context) {
	j := &joiner{c: c, rng: chance(c.cfg.Seed, "join"), reached: make(map[string]bool)}
	for ctx.Err() == nil && !c.silent.Load() {
		changed := c.Changed()
		urgent := j.urgent()
		j.turn(ctx)
		j.pause(ctx, urgent, changed)
	}
}

// urgent says that this node is alone, or that the others do not yet know it
// at its address.
func (j *joiner) urgent() bool {
	return j.c.alone() || j.c.judge.isContested() && !j.c.judge.settled.Load()
}

// turn makes one round of tries.
func (j *joiner) turn(ctx context.Context) {
	if rival := j.c.judge.takeRival(); rival != "" {
		j.try(ctx, rival)
	}
	alone := j.c.alone()
	j.tryAll(ctx, j.targets(ctx, j.c.View(), alone))
	if alone {
		// Names come last: a silent DNS must not hold up what the book knows.
		j.tryAll(ctx, j.unmet(j.lookup(ctx, j.c.cfg.seeds(true)), addrsAlive(j.c.View()), true))
	}
}

func (j *joiner) tryAll(ctx context.Context, addrs []string) {
	for _, addr := range addrs {
		if ctx.Err() != nil {
			return
		}
		j.try(ctx, addr)
	}
}

// pause waits for the next turn. A node that has become alone does not wait
// out the long pause.
func (j *joiner) pause(ctx context.Context, urgent bool, changed <-chan struct{}) {
	var wait time.Duration
	if urgent || j.urgent() {
		j.backoff = min(max(j.backoff*3/2, aloneMin), aloneMax)
		wait = j.backoff*3/4 + j.upTo(j.backoff/2)
	} else {
		j.backoff = 0
		wait = searchMin + j.upTo(searchMax-searchMin)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-j.c.retry:
			return
		case <-timer.C:
			return
		case <-changed:
			changed = j.c.Changed()
			if now := j.urgent(); now && !urgent {
				j.backoff = 0
				timer.Reset(j.upTo(aloneMin))
				urgent = true
			}
		}
	}
}

func (j *joiner) upTo(d time.Duration) time.Duration {
	return time.Duration(j.rng.Int64N(int64(d) + 1))
}

// addrsAlive are the gossip addresses of those who are alive.
func addrsAlive(view *View) map[string]bool {
	alive := make(map[string]bool)
	for i := range view.Peers {
		if p := &view.Peers[i]; p.Alive {
			alive[p.GossipAddr] = true
		}
	}
	return alive
}

// unmet are the addresses of seeds, each once, of which nobody is alive; and, with
// somebody to talk to, none has answered in this life.
func (j *joiner) unmet(addrs []string, alive map[string]bool, alone bool) (seeds []string) {
	for _, addr := range addrs {
		if !j.c.net.isSelf(addr) && !alive[addr] && (alone || !j.reached[addr]) && !slices.Contains(seeds, addr) {
			seeds = append(seeds, addr)
		}
	}
	return seeds
}

// targets chooses the addresses of one turn. Alone: all seeds that need no lookup, and
// one peer of the book. Otherwise one of all that are absent. Where others know us at an
// old address only, any of them is worth telling again.
func (j *joiner) targets(ctx context.Context, view *View, alone bool) []string {
	alive := addrsAlive(view)
	absent := j.absent(view, alive)
	var seeds []string
	if alone {
		seeds = j.c.cfg.seeds(false)
	} else if seeds = j.c.cfg.Seeds; len(seeds) > 1 { // a lookup may take its time
		at := j.rng.IntN(len(seeds))
		seeds = seeds[at : at+1]
	}
	seeds = j.unmet(j.lookup(ctx, seeds), alive, alone)
	if alone {
		if len(absent) > 0 {
			if one := absent[j.rng.IntN(len(absent))]; !slices.Contains(seeds, one) {
				seeds = append(seeds, one)
			}
		}
		return seeds
	}
	candidates := append(seeds, absent...)
	if j.urgent() {
		candidates = candidates[:0]
		for i := range view.Peers {
			if p := &view.Peers[i]; p.Alive && p.ID != j.c.cfg.ID {
				candidates = append(candidates, p.GossipAddr)
			}
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	return []string{candidates[j.rng.IntN(len(candidates))]}
}

// absent gives one address of every peer of the book that is not alive: the
// last one mostly, an older one now and then.
func (j *joiner) absent(view *View, alive map[string]bool) []string {
	var addrs []string
	for _, e := range j.c.book.all() {
		if p := view.Peer(e.ID); p != nil && p.Alive || len(e.Addrs) == 0 || j.c.guard.isForeign(e.ID) {
			continue
		}
		addr := e.Addrs[0]
		if j.rng.IntN(4) == 0 {
			addr = e.Addrs[j.rng.IntN(len(e.Addrs))]
		}
		if !alive[addr] && !j.c.net.isSelf(addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

func (j *joiner) try(ctx context.Context, addr string) {
	_, err := j.c.serf.Join([]string{addr}, true)
	if err != nil {
		if ctx.Err() == nil && !j.c.silent.Load() {
			j.failed(addr, explain(addr, j.c.cfg.Cluster, err))
		}
		return
	}
	j.reached[addr] = true
	j.c.joinErr.Store(nil)
}

// failed keeps the reason for JoinError, and tells it. Alone it matters to
// people; otherwise an absent peer is old news.
func (j *joiner) failed(addr string, err error) {
	j.c.joinErr.Store(&err)
	level := slog.LevelDebug
	if j.c.alone() {
		level = slog.LevelWarn
	}
	j.c.log.Limited(level, "join "+addr+level.String(), "not joined; trying on", "peer", addr, "error", err)
}
