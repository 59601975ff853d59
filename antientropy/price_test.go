package antientropy

import (
	"fmt"
	"testing"
	"time"

	"github.com/kithdb/kith/store/version"
)

// What decision 006 says that cannot be had, as it is.

// A context names one write of an actor, and covers all that this actor wrote to the
// key before. A home that lost what it minted says so with its next write, unless it
// draws a new actor: it cannot know that it should.
func TestAHomeThatLostItsOwnWriteEndsItWithItsNextOne(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		inWorld(t, worldOptions{partitions: 1, tune: onlyAudits}, func(w *world) {
			lost := dotOf(t, w.write(1, "k", "lost", 0, 2))
			w.quiet()
			w.rot(1, "k")
			if restarted {
				w.halt(1)
				w.nodes[1].store.restart()
				w.start(1)
			}
			next := w.nodes[1].put("k", "next", false, false) // a client's, that has seen nothing
			for i := range w.nodes {
				w.deliver(next, i)
			}
			b, err := w.nodes[0].store.Get(0, []byte("k"))
			if err != nil {
				t.Fatal(err)
			}
			r, err := version.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			held := false
			for i := range r.Siblings {
				held = held || r.Siblings[i].Dot == lost
			}
			if held != restarted {
				t.Errorf("with a new actor %v: it is held: %v, with %v", restarted, held, r.Siblings)
			}
		})
	}
}

// A tombstone that one home has lost without noticing is dropped by the others, as if
// the one had forgotten it first: nobody is asked, for when one home has forgotten it
// and two have not yet, nothing was lost. The deleted value comes to nothing all the
// same, by what the clocks claim.
func TestALostTombstoneBringsNothingBack(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1}, func(w *world) {
		w.write(0, "k", "v", 1, 2)
		w.quiet()
		w.halt(2) // it holds the value
		w.deliver(w.nodes[0].put("k", "", true, true), 1)
		w.rot(1, "k")
		w.eventually(time.Minute, "the tombstone goes", func() error {
			_, err := w.auditAt(0, 1, false)
			if err == nil && w.has(0, "k") {
				err = fmt.Errorf("node 0 has it")
			}
			return err
		})
		w.start(2)
		w.eventually(5*time.Minute, "settled", w.settled)
		for i := range w.nodes {
			if w.has(i, "k") || w.declared(i) > 0 {
				t.Errorf("node %d has what was deleted: %v; it declared %d losses", i, w.has(i, "k"), w.declared(i))
			}
		}
	})
}
