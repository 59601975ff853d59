package antientropy

import (
	"context"
	"testing"
	"time"

	"github.com/kithdb/kith/store/version"
)

// A home that has lost a value without noticing says of it what it says of one that was
// replaced. Where that is weighed before the value arrives from a third home, beside the
// word of the first, it ends nothing.
func TestAVerdictWeighedBeforeAValueCameEndsNothing(t *testing.T) {
	nobody, third := []bool{false, false, false}, []bool{false, false, true}
	steps := []step{
		{What: "write", Key: 1, To: nobody, Dead: true},
		{What: "write", Key: 0, To: nobody, Dead: true, Wait: 3 * time.Second},
		{What: "write", Key: 4, To: nobody, Dead: true, Wait: time.Second / 2},
		{What: "write", Key: 1, To: third, Large: true, Sees: true},
		{What: "silent", Key: 1},
	}
	for seed := range uint64(realSeeds(t, 30)) {
		inWorld(t, worldOptions{seed: seed, partitions: 2, tune: func(c *Config) { c.AuditEvery = time.Minute }}, func(w *world) {
			losses, err := playedHistory(w, steps)
			if err != nil || losses != 1 {
				t.Fatalf("seed %d: %d losses, %v", seed, losses, err)
			}
		})
	}
}

// An offer says which siblings its sender saw.
func TestAnOfferEndsWhatItsSenderSawAndNothingElse(t *testing.T) {
	inWorld(t, worldOptions{stopped: true}, func(w *world) {
		key := "k"
		p := w.partitionOf(key)
		homes := w.homesOf(p)
		a, b := w.nodes[homes[0]], w.nodes[homes[1]]
		old, err := version.Parse(a.put(key, "old", false, false))
		if err != nil {
			t.Fatal(err)
		}
		late, err := version.Parse(a.put(key, "late", false, false))
		if err != nil {
			t.Fatal(err)
		}
		w.start(homes[0])
		w.start(homes[1])
		dots := dotsOf(&late)
		req := &offerRequest{Partition: p, Verdict: true, Base: late.Seen, Items: []offeredKey{{[]byte(key), nil, dotsOf(&old)}}}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := ask(ctx, b.repair, a.id, offerRoute, req); err != nil {
			t.Fatal(err)
		}
		got, err := a.store.Get(p, []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		left, err := version.Parse(got)
		if err != nil || len(dots) != 2 || len(left.Siblings) != 1 || string(left.Siblings[0].Value) != "late" {
			t.Fatalf("%d siblings were there, and %v is left, %v", len(dots), left.Siblings, err)
		}
	})
}

// What an audit offers is by the clock of when it compared: a fetch that is seconds on its
// way brings a value that came here in between, and was lost again.
func TestAnOfferIsByTheClockOfWhenCopiesWereCompared(t *testing.T) {
	inWorld(t, worldOptions{}, func(w *world) {
		key := "k"
		p := w.partitionOf(key)
		homes := w.homesOf(p)
		loser, holder := w.nodes[homes[0]], w.nodes[homes[1]]
		w.quiet()
		compared, err := loser.repair.look(p, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		b := w.write(homes[1], key, "value", homes...)
		w.rot(homes[0], key)
		record, err := version.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		a := &pairAudit{r: loser.repair, with: holder.id}
		theirs := []theirCopy{{leaf: version.LeafOf(b), record: record, judged: dotsOf(&record), differs: true}}
		if err := a.offer(ctx, p, [][]byte{[]byte(key)}, theirs, &compared); err != nil {
			t.Fatal(err)
		}
		if !w.has(homes[1], key) {
			t.Fatal("a value is gone that nobody was asked about")
		}
	})
}

// A value that both homes held when they were compared, for another difference of the key,
// is lost at one of them while it asks others. Its offer says nothing of that value.
func TestAnOfferEndsNothingThatItsSenderHeldWhenCopiesWereCompared(t *testing.T) {
	inWorld(t, worldOptions{}, func(w *world) {
		key := "k"
		p := w.partitionOf(key)
		homes := w.homesOf(p)
		loser, holder := w.nodes[homes[0]], w.nodes[homes[1]]
		w.write(homes[2], key, "value", homes...)
		w.quiet()
		compared, err := loser.repair.look(p, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		more := holder.store.put(p, key, "beside", nil, false, false, version.StampAt(time.Now()))
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		a := &pairAudit{r: loser.repair, with: holder.id}
		var mine held
		_, err = loser.repair.look(p, [][]byte{[]byte(key)}, func(_ int, encoded []byte, record *version.Record) bool {
			mine = held{leaf: version.LeafOf(encoded), dots: dotsOf(record), alive: dotsOf(record), seen: record.Seen}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		theirs, disputes, err := a.compare([][]byte{[]byte(key)}, []held{mine}, &compared.clock, &fetchResponse{Items: []fetchedKey{{Record: more}}})
		if err != nil || len(disputes) > 0 || !theirs[0].differs {
			t.Fatalf("%+v, %+v, %v", theirs, disputes, err)
		}
		w.rot(homes[0], key)
		if err := a.offer(ctx, p, [][]byte{[]byte(key)}, theirs, &compared); err != nil {
			t.Fatal(err)
		}
		b, err := holder.store.Get(p, []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		if left, err := version.Parse(b); err != nil || len(left.Siblings) != 2 {
			t.Fatalf("%d of two values are left, %v", len(left.Siblings), err)
		}
	})
}
