package kv_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim"
)

// underLoad has clients write and read at quorum while something happens. What fails is
// tried again through another node, as a new operation; no operation may fail for longer
// than so long. In the end all is held against the oracle.
func underLoad(w *world, patience time.Duration, happens func()) {
	r := &randomRun{w: w, seed: 1, history: sim.NewHistory()}
	over := make(chan struct{})
	var clients sync.WaitGroup
	for i := range randomClients {
		clients.Go(func() { r.insist(i, patience, over) })
	}
	happens()
	close(over)
	clients.Wait()
	time.Sleep(time.Minute)
	r.check()
	if done := r.history.Count(sim.Done); done < 100 {
		w.t.Errorf("%d operations were done", done)
	}
	w.t.Logf("%d done, %d refused, %d unknown", r.history.Count(sim.Done), r.history.Count(sim.Refused), r.history.Count(sim.Unknown))
}

// insist is a client whose every operation is tried until it is done.
func (r *randomRun) insist(i int, patience time.Duration, over chan struct{}) {
	name, chance := fmt.Sprint("c", i), rand.New(rand.NewPCG(1, uint64(i)))
	quorum := asking{level: api.Quorum, strict: true}
	known := map[string]read{}
	for n := 0; ; n++ {
		select {
		case <-over:
			return
		case <-time.After(time.Duration(chance.IntN(400)) * time.Millisecond):
		}
		key, reads, start := randomKey(chance.IntN(randomKeys)), chance.IntN(2) == 0, time.Now()
		via := chance.IntN(len(r.w.nodes))
		for try := 0; ; try++ {
			o := &sim.Op{Client: name, Key: key, Strict: true, Read: reads}
			if reads {
				if resp := r.get(r.history.Begin(o), via, quorum); resp != nil {
					known[key] = read{o, resp.Context}
					break
				}
			} else {
				o.Value = fmt.Sprintf("%s.%d.%d", name, n, try)
				req := api.PutRequest{Key: []byte(key), Value: []byte(o.Value)}
				if k := known[key]; k.op != nil {
					o.After, req.Context = k.op, k.context
				}
				if r.put(r.history.Begin(o), via, req); o.Outcome == sim.Done {
					break
				}
			}
			if took := time.Since(start); took > patience {
				r.w.t.Errorf("%s: %s %d (read: %v) has failed for %v: %s", name, key, n, reads, took, o.Note)
				return
			}
			via = (via + 1) % len(r.w.nodes)
		}
	}
}

func TestFault22_RollingRestartsUnderLoad(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		underLoad(w, 3*time.Second, func() {
			for turn := range 20 {
				time.Sleep(2 * time.Second)
				w.halt(turn % len(w.nodes))
				time.Sleep(time.Second)
				w.revive(turn % len(w.nodes))
			}
		})
	})
}

// The same in three zones, of which one at a time is restarted whole.
func TestFault22_RollingRestartsZoneByZone(t *testing.T) {
	inZones(t, 1, []string{"a", "b", "c", "a", "b", "c"}, 3, func(w *world) {
		underLoad(w, 3*time.Second, func() {
			for turn := range 20 {
				zone := w.in(string("abc"[turn%3]))
				time.Sleep(2 * time.Second)
				for _, i := range zone {
					w.halt(i)
				}
				time.Sleep(time.Second)
				for _, i := range zone {
					w.revive(i)
				}
			}
		})
	})
}

// A node that dies again and again, soon after each start, holds up nobody.
func TestFault23_CrashLoopOfOneNodeHoldsUpNobody(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		underLoad(w, 3*time.Second, func() {
			chance := rand.New(rand.NewPCG(5, 5))
			for range 60 {
				time.Sleep(time.Duration(chance.IntN(700)) * time.Millisecond)
				w.nodes[0].host.Crash()
				if chance.IntN(2) == 0 {
					w.nodes[0].disk.PowerCut()
				}
				w.halt(0)
				time.Sleep(time.Duration(chance.IntN(300)) * time.Millisecond)
				w.revive(0)
			}
		})
	})
}

// Of three homes two are gone for good: what is left can be read at one, writes at
// quorum are refused, and both say who is gone.
func TestFault52_AMajorityOfHomesGoneLeavesReadsAtOne(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		homes, others := w.homes("k")
		w.mustPut(homes[0], "k", "v", nil)
		time.Sleep(time.Second)
		for _, i := range homes[1:] {
			w.nodes[i].host.Crash()
		}
		for _, via := range []int{homes[0], others[0], others[1]} { // until that is known
			if resp, err := w.get(via, "k", api.All); err == nil {
				t.Fatalf("all: %+v", resp)
			}
		}
		time.Sleep(time.Second)
		for _, via := range []int{homes[0], others[0], others[1]} {
			if got := w.values(via, "k", api.One); !maps.Equal(got, set("v")) {
				t.Errorf("one, through node %d: %v", via, got)
			}
			_, read := w.get(via, "k", api.Quorum)
			_, wrote := w.put(via, api.PutRequest{Key: []byte("k"), Value: []byte("w")})
			for what, err := range map[string]error{"get": read, "put": wrote} {
				if !errors.Is(err, api.ErrUnavailable) || errors.Is(err, api.ErrUnknown) {
					t.Errorf("%s through node %d: %v", what, via, err)
				}
				for _, i := range homes[1:] {
					if err == nil || !strings.Contains(err.Error(), w.nodes[i].name+" ") {
						t.Errorf("%s through node %d does not name %s: %v", what, via, w.nodes[i].name, err)
					}
				}
			}
		}
		if got := w.own(homes[0], "k"); len(got.Siblings) != 1 || string(got.Siblings[0].Value) != "v" {
			t.Errorf("the home that is left has %+v", got)
		}
	})
}
