package node_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// checker writes and reads at quorum without pause, and says when a read shows less
// than what was acknowledged, or than an earlier read.
type checker struct {
	*bubble
	keys []*checked
	stop chan struct{}
	once sync.Once
	work sync.WaitGroup

	mu                             sync.Mutex // guards the rest
	acked, refused, unknown, reads int
	failed                         error // the first one
	nodes                          func() []rpc.Peer
}

// checked is one key. Its values are numbers that rise with each write; it has one
// writer.
type checked struct {
	name string

	mu    sync.Mutex // guards the rest
	next  int
	floor int // acknowledged, or read
}

// check starts writers and readers that ask some machines.
func (b *bubble) check(keys int, pause time.Duration, nodes ...*box) *checker {
	peers := peersOf(nodes)
	return b.checkAt(keys, pause, func() []rpc.Peer { return peers })
}

func peersOf(boxes []*box) (peers []rpc.Peer) {
	for _, x := range boxes {
		peers = append(peers, x.peer())
	}
	return peers
}

// checkAt starts writers and readers that ask whom nodes gives: any goroutine calls it.
func (b *bubble) checkAt(keys int, pause time.Duration, nodes func() []rpc.Peer) *checker {
	c := &checker{bubble: b, stop: make(chan struct{}), nodes: nodes}
	b.checkers = append(b.checkers, c)
	for i := range keys {
		k := &checked{name: fmt.Sprintf("key-%d", i)}
		c.keys = append(c.keys, k)
		for kind := range 2 {
			rng := rand.New(rand.NewPCG(b.seed, uint64(2*i+kind)))
			c.work.Go(func() {
				for {
					select {
					case <-c.stop:
						return
					case <-time.After(pause/2 + time.Duration(rng.Int64N(int64(pause)))):
					}
					if kind == 0 {
						c.write(k, rng)
					} else {
						c.read(k, rng)
					}
				}
			})
		}
	}
	return c
}

func (c *checker) pick(rng *rand.Rand) rpc.Peer {
	nodes := c.nodes()
	return nodes[rng.IntN(len(nodes))]
}

func (c *checker) write(k *checked, rng *rand.Rand) {
	k.mu.Lock()
	k.next++
	n := k.next
	k.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), putFor)
	defer cancel()
	_, err := api.Put.Call(ctx, c.me, c.pick(rng), &api.PutRequest{Key: []byte(k.name), Value: []byte(strconv.Itoa(n)), W: api.Quorum})
	c.count(err, true)
	switch {
	case err == nil:
		k.mu.Lock()
		k.floor = max(k.floor, n)
		k.mu.Unlock()
	case !errors.Is(err, api.ErrUnavailable) && !errors.Is(err, api.ErrNotReady) && !rpc.NotSent(err):
		// It may still be minted, in the place of what is written next: but not
		// after its deadline.
		select {
		case <-time.After(unknownFor):
		case <-c.stop:
		}
	}
}

const (
	// putFor is the patience of a write, unknownFor how long after its failure it
	// may still be carried out, clocks being apart by two seconds at most.
	putFor     = 5 * time.Second
	unknownFor = putFor + 3*time.Second
)

func (c *checker) read(k *checked, rng *rand.Rand) {
	k.mu.Lock()
	floor := k.floor
	k.mu.Unlock()
	n, err := c.valueOf(c.pick(rng), k.name)
	c.count(err, false)
	if err != nil {
		return
	}
	if n < floor {
		c.t.Errorf("seed %d: %s reads as %d, and was %d before", c.seed, k.name, n, floor)
	}
	k.mu.Lock()
	k.floor = max(k.floor, n)
	k.mu.Unlock()
}

// valueOf is the largest number that a machine reads of a key at quorum; 0 for none.
func (c *checker) valueOf(at rpc.Peer, key string) (n int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	resp, err := api.Get.Call(ctx, c.me, at, &api.GetRequest{Key: []byte(key), R: api.Quorum})
	if err != nil {
		return 0, err
	}
	for _, v := range resp.Values {
		got, err := strconv.Atoi(string(v.Data))
		if err != nil {
			c.t.Errorf("%s has the value %q", key, v.Data)
		}
		n = max(n, got)
	}
	return n, nil
}

func (c *checker) count(err error, write bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil && write:
		c.acked++
		return
	case err == nil:
		c.reads++
		return
	case write && errors.Is(err, api.ErrUnknown):
		c.unknown++
	default:
		c.refused++
	}
	if c.failed == nil {
		c.failed = err
	}
}

// halt stops the checker.
func (c *checker) halt() {
	c.once.Do(func() { close(c.stop) })
	c.work.Wait()
}

// end stops the checker, and reads every key from every machine once more.
func (c *checker) end() {
	c.t.Helper()
	c.halt()
	for _, k := range c.keys {
		for _, x := range c.up() {
			var n int
			var err error
			c.until(k.name+" can be read", func() bool { n, err = c.valueOf(x.peer(), k.name); return err == nil })
			if n < k.floor {
				c.t.Errorf("seed %d: in the end %s reads as %d at %s, and was %d", c.seed, k.name, n, x.name, k.floor)
			}
		}
	}
	c.t.Logf("seed %d: %d writes acknowledged, %d reads, %d refused, %d unknown: %v", c.seed, c.acked, c.reads, c.refused, c.unknown, c.failed)
}

// undisturbed says that nothing was refused and nothing remained unknown.
func (c *checker) undisturbed() {
	c.t.Helper()
	if c.refused+c.unknown > 0 {
		c.t.Errorf("seed %d: %d operations were refused and %d have an unknown outcome, like: %v", c.seed, c.refused, c.unknown, c.failed)
	}
}
