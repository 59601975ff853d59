package antientropy

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// keep has node i keep a record for node home.
func (w *world) keep(i, home int, b []byte) {
	w.t.Helper()
	r, err := version.Parse(b)
	if err != nil {
		w.t.Fatal(err)
	}
	w.nodes[i].store.StandIn(&store.StandIn{Home: nodeID(home), Partition: w.rec.PartitionOf(r.Key), Record: r, Encoded: b})
}

// kept is how many records node i keeps for node home.
func (w *world) kept(i, home int) int {
	w.t.Helper()
	all, err := w.nodes[i].store.StandIns(nodeID(home), 0, nil, 1<<20)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(all)
}

// onlyHome is a key with the index of its only home, and that of somebody else.
func (w *world) onlyHome(i int) (key string, home, other int) {
	for n := 0; ; n++ {
		key = fmt.Sprintf("k-%d-%d", i, n)
		for h := range w.nodes {
			if w.rec.HomeIndex(w.partitionOf(key), nodeID(h)) == 0 && h != 0 {
				return key, h, 0
			}
		}
	}
}

// minted is a record that a home has minted, and that was lost there.
func (w *world) minted(home int, key, value string) []byte {
	elsewhere := newMemStore(func() uint64 { w.draws++; return uint64(home)<<32 + w.draws })
	return elsewhere.put(w.partitionOf(key), key, value, nil, true, false, version.StampAt(time.Now()))
}

func TestStandInsGoHome(t *testing.T) {
	inWorld(t, worldOptions{nodes: 4, replicas: 1, partitions: 16}, func(w *world) {
		want := map[string]int{}
		for i := range 300 {
			key, home, other := w.onlyHome(i)
			w.keep(other, home, w.minted(home, key, "v"))
			want[key] = home
		}
		w.eventually(30*time.Second, "home", func() error {
			for key, home := range want {
				if b, _ := w.nodes[home].store.Get(w.partitionOf(key), []byte(key)); b == nil {
					return fmt.Errorf("%s is not at home", key)
				}
				if n := w.kept(0, home); n > 0 {
					return fmt.Errorf("%d records are kept for %d", n, home)
				}
			}
			return nil
		})
	})
}

// A record is kept until its home has it on disk.
func TestStandInIsKeptUntilItsHomeHasIt(t *testing.T) {
	inWorld(t, worldOptions{nodes: 3, replicas: 1}, func(w *world) {
		key, home, other := w.onlyHome(0)
		full := errors.New("disk full")
		s := w.nodes[home].store
		s.refuse = func([]byte) error { return full }
		w.keep(other, home, w.minted(home, key, "v"))
		time.Sleep(time.Minute)
		w.halt(home)
		time.Sleep(time.Minute)
		if n := w.kept(other, home); n != 1 {
			t.Errorf("%d records are kept", n)
		}
		s.refuse = nil
		w.start(home)
		w.eventually(time.Minute, "home", func() error {
			if n := w.kept(other, home); n > 0 {
				return fmt.Errorf("%d records are kept", n)
			}
			return nil
		})
		if b, _ := s.Get(w.partitionOf(key), []byte(key)); b == nil {
			t.Error("dropped, and not at home")
		}
	})
}

// changing is a store whose stand-ins change while they are on their way home.
type changing struct {
	*memStore
	meanwhile func()
}

// StandIns implements Store.
func (c *changing) StandIns(home ring.NodeID, p ring.Partition, after []byte, limit int) ([]store.StandIn, error) {
	out, err := c.memStore.StandIns(home, p, after, limit)
	if len(out) > 0 && c.meanwhile != nil {
		c.meanwhile()
		c.meanwhile = nil
	}
	return out, err
}

// What changed while it was on its way stays, and goes home again.
func TestStandInThatChangedIsNotDropped(t *testing.T) {
	var w2 *world
	var second []byte
	drops := 0
	inWorld(t, worldOptions{nodes: 3, replicas: 1, stopped: true}, func(w *world) {
		w2 = w
		key, home, other := w.onlyHome(0)
		w.keep(other, home, w.minted(home, key, "first"))
		second = w.minted(home, key, "second")
		s := &changing{memStore: w.nodes[other].store}
		s.meanwhile = func() {
			w2.keep(other, home, second)
			drops++
		}
		w.nodes[other].tune = func(c *Config) { c.Store = s }
		for i := range w.nodes {
			w.start(i)
		}
		w.eventually(time.Minute, "home", func() error {
			if n := w.kept(other, home); n > 0 {
				return fmt.Errorf("%d records are kept", n)
			}
			return nil
		})
		b, _ := w.nodes[home].store.Get(w.partitionOf(key), []byte(key))
		r, err := version.Parse(b)
		if err != nil || len(r.Siblings) != 2 || drops != 1 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// A member that was removed has no home to send to: all homes must have it.
func TestStandInOfARemovedMemberGoesToAllHomes(t *testing.T) {
	inWorld(t, worldOptions{nodes: 4, replicas: 3}, func(w *world) {
		key := "k"
		var homes []int
		other := 0
		for i := range w.nodes {
			if w.rec.HomeIndex(w.partitionOf(key), nodeID(i)) >= 0 {
				homes = append(homes, i)
			} else {
				other = i
			}
		}
		down := homes[1]
		w.halt(down)
		b := w.minted(9, key, "v")
		w.keep(other, 77, b)
		time.Sleep(time.Minute)
		if n := w.kept(other, 77); n != 1 {
			w.t.Fatalf("%d records are kept while a home is away", n)
		}
		w.start(down)
		w.eventually(time.Minute, "home", func() error {
			if n := w.kept(other, 77); n > 0 {
				return fmt.Errorf("%d records are kept", n)
			}
			return nil
		})
		for _, i := range homes {
			if got, _ := w.nodes[i].store.Get(w.partitionOf(key), []byte(key)); !bytes.Equal(got, b) {
				t.Errorf("node %d has %x", i, got)
			}
		}
	})
}

// What was deleted and forgotten stays so, however late an old record comes home.
func TestOldStandInBringsNothingBack(t *testing.T) {
	inWorld(t, worldOptions{nodes: 4, replicas: 3, partitions: 1, tune: func(c *Config) { c.ForgetAfter = time.Second }}, func(w *world) {
		var homes []int
		other := 0
		for i := range w.nodes {
			if w.rec.HomeIndex(0, nodeID(i)) >= 0 {
				homes = append(homes, i)
			} else {
				other = i
			}
		}
		old := w.write(homes[0], "k", "old", homes[1], homes[2])
		dead := w.nodes[homes[0]].store.put(0, "k", "", nil, true, true, version.StampAt(time.Now()))
		w.deliver(dead, homes[1], homes[2])
		w.eventually(10*time.Minute, "forgotten", func() error {
			for _, i := range homes {
				if n := len(w.nodes[i].store.dump()); n > 0 {
					return fmt.Errorf("node %d has %d keys", i, n)
				}
			}
			return nil
		})
		w.keep(other, homes[0], old)
		w.eventually(time.Minute, "home", func() error {
			if n := w.kept(other, homes[0]); n > 0 {
				return fmt.Errorf("%d records are kept", n)
			}
			return nil
		})
		time.Sleep(time.Minute)
		for _, i := range homes {
			if n := len(w.nodes[i].store.dump()); n > 0 {
				t.Errorf("node %d has %d keys", i, n)
			}
		}
	})
}
