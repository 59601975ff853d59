package antientropy

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/kithdb/kith/sim/network"
	"github.com/kithdb/kith/store"
)

// Pages come at once, some seconds apart: whoever asks how long it still takes,
// often or seldom, is told about the truth after the first of them.
func TestFault54_EstimateBearsPagesHoweverOftenItIsAsked(t *testing.T) {
	const page, pages, every = 300, 10, 4 * time.Second
	for _, asked := range []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, time.Second, 7 * time.Second} {
		var p progress
		began := time.UnixMilli(1_800_000_000_000)
		told := 0
		for since := time.Duration(0); since < pages*every; since += asked {
			missing := int64(page * (pages - int(since/every)))
			got, left := p.eta(missing, began.Add(since)), (pages*every - since).Seconds()
			if got < 0 {
				continue
			}
			if told++; got > 2.5*left+2*every.Seconds() || got < left/2.5-2*every.Seconds() {
				t.Errorf("asked every %v, after %v: %.1f s are said to be left, of %.1f", asked, since, got, left)
			}
		}
		if told < int(20*time.Second/asked) {
			t.Errorf("asked every %v: told %d times", asked, told)
		}
	}
}

// Two homes lack what the other has, and catch-up does not run: the audit mends it.
// Now one of them and now the other is killed or loses power in the middle of that.
// The next audit goes on; copies are equal in the end, and hold what either had.
func TestFault19_KillsInTheMiddleOfAnAuditThatMends(t *testing.T) {
	inRealWorld(t, worldOptions{seed: 19, partitions: 1, tune: onlyAudits}, func(w *realWorld) {
		const keys = 100 // of each of the two
		w.net.SetDefault(network.Link{Latency: 5 * time.Millisecond, Jitter: time.Millisecond})
		w.startAll()
		time.Sleep(5 * time.Second)
		for i := range 2 * keys {
			w.mint(i%2, store.Put{Key: fmt.Appendf(nil, "k-%03d", i), Value: make([]byte, 100<<10)})
		}
		middles := 0
		for n := range 8 {
			asks, dies := n/2%2, n%2
			before := w.held()
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			repair, other := w.nodes[asks].repair, w.nodes[1-asks].id
			go func() {
				_, err := repair.auditWith(ctx, other, w.all(), false)
				ended <- err
			}()
			for range 60_000 {
				if w.held() >= before+20 || len(ended) > 0 {
					break
				}
				time.Sleep(time.Millisecond)
			}
			if w.held() < 4*keys && len(ended) == 0 {
				middles++
			}
			if n < 4 {
				w.disks[dies].Kill()
			} else {
				w.disks[dies].PowerCut()
			}
			w.stopNode(dies)
			cancel()
			<-ended
			w.startNode(dies)
			w.eventually(10*time.Second, "trees are built", func() error { return w.treesTrusted(dies) })
		}
		if middles < 3 {
			t.Errorf("%d deaths in the middle: that proves nothing", middles)
		}
		time.Sleep(5 * time.Second) // connections stand again
		for _, pair := range [][2]int{{0, 1}, {0, 2}, {1, 2}} {
			w.mustAudit(pair[0], pair[1], false)
		}
		if err := w.same(); err != nil {
			t.Error(err)
		}
		if n := len(w.content(0)); n != 2*keys {
			t.Errorf("%d keys in the end, want %d", n, 2*keys)
		}
		for _, h := range w.nodes {
			if st := h.repair.Status(); st.Anomalies != 0 {
				t.Errorf("node %d: %d anomalies, %s", h.i, st.Anomalies, st.LastAnomaly)
			}
		}
	})
}

// held counts the records of the first two homes.
func (w *realWorld) held() int64 { return w.stores[0].Stats().Keys + w.stores[1].Stats().Keys }

// treesTrusted says which tree of a node is not trusted yet.
func (w *realWorld) treesTrusted(i int) error {
	for _, p := range w.all() {
		if _, _, ok := w.stores[i].TreeOf(p); !ok {
			return fmt.Errorf("partition %d", p)
		}
	}
	return nil
}
