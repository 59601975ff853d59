package antientropy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// onlyAudits keeps catch-up from mending what an audit is to find.
func onlyAudits(c *Config) { c.ClocksEvery = 10000 * time.Hour }

// all are the partitions of a world.
func (w *world) all() (out []ring.Partition) {
	for p := range ring.Partition(w.rec.Partitions) {
		out = append(out, p)
	}
	return out
}

// auditAt audits all partitions from one node with another.
func (w *world) auditAt(i, with int, full bool) (auditOutcome, error) {
	w.t.Helper()
	return w.nodes[i].repair.auditWith(context.Background(), w.nodes[with].id, w.all(), full)
}

// mustAudit is auditAt that skips nothing.
func (w *world) mustAudit(i, with int, full bool) auditOutcome {
	w.t.Helper()
	out, err := w.auditAt(i, with, full)
	if err != nil || len(out.Skipped) > 0 {
		w.t.Fatalf("audit: %v, skipped %v", err, out.Skipped)
	}
	return out
}

// rot takes the record of a key from a node, whose clock claims it all the same.
func (w *world) rot(i int, key string) {
	s := w.nodes[i].store
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.part(w.partitionOf(key)).records, key)
}

// has says that a node has a record of a key.
func (w *world) has(i int, key string) bool {
	w.t.Helper()
	b, err := w.nodes[i].store.Get(w.partitionOf(key), []byte(key))
	if err != nil {
		w.t.Fatal(err)
	}
	return b != nil
}

// quiet waits until clocks were exchanged after a start.
func (w *world) quiet() {
	w.t.Helper()
	w.eventually(20*time.Second, "clocks are exchanged", w.claimsEqual)
	time.Sleep(5 * time.Second)
	w.traffic()
}

func TestAuditOfEqualHomesIsOneSmallRoundTrip(t *testing.T) {
	inWorld(t, worldOptions{partitions: 64, tune: onlyAudits}, func(w *world) {
		for i := range 2000 {
			w.write(i%3, fmt.Sprint("k-", i), "v", 0, 1, 2)
		}
		w.quiet()
		out := w.mustAudit(0, 1, false)
		if out.Audited != 64 || out.Differences != 0 {
			t.Errorf("outcome %+v", out)
		}
		calls, sizes := w.traffic()
		if len(calls) != 1 || calls["ae.roots"] != 1 || sizes["ae.roots"] > 64*20+200 {
			t.Errorf("64 equal partitions cost %v calls, %v bytes", calls, sizes)
		}
	})
}

// A partition has as many keys here as one of 1,024 with 2.5 million keys; with
// KITH_LONG it is a million keys in 1,024 partitions, whose roots are then most of
// what is sent.
func TestAuditOfOneKeyAmongManyMovesKilobytes(t *testing.T) {
	keys, partitions, most := 10_000, 4, 8<<10
	if os.Getenv("KITH_LONG") != "" {
		keys, partitions, most = 1_000_000, 1024, 32<<10
	}
	inWorld(t, worldOptions{partitions: partitions, tune: onlyAudits}, func(w *world) {
		for i := range keys {
			w.write(i%3, fmt.Sprint("k-", i), "v", 0, 1, 2)
		}
		w.quiet()
		w.write(0, "k-77", "new") // and nobody hears of it
		w.traffic()
		out := w.mustAudit(0, 1, false)
		if out.Differences != 1 || w.nodes[0].repair.Status().Differences != 1 {
			t.Errorf("outcome %+v", out)
		}
		if a, b := w.nodes[0].dump()["k-77"], w.nodes[1].dump()["k-77"]; a != b {
			t.Errorf("after the audit: %x and %x", a, b)
		}
		_, sizes := w.traffic()
		sum := 0
		for _, n := range sizes {
			sum += n
		}
		if sum > most {
			t.Errorf("%d bytes for one key: %v", sum, sizes)
		}
		t.Logf("%d bytes for one key of %d: %v", sum, keys, sizes)
	})
}

func TestAuditMergesBothWays(t *testing.T) {
	inWorld(t, worldOptions{partitions: 4, tune: onlyAudits}, func(w *world) {
		for i := range 100 {
			w.write(0, fmt.Sprint("k-", i), "old", 1, 2)
		}
		w.quiet()
		for i := range 20 {
			w.write(0, fmt.Sprint("k-", i), "a") // siblings
			w.write(1, fmt.Sprint("k-", i), "b")
			w.write(0, fmt.Sprint("here-", i), "v")
			w.write(1, fmt.Sprint("there-", i), "v")
		}
		out := w.mustAudit(0, 1, false)
		a, b := w.nodes[0].store.dump(), w.nodes[1].store.dump()
		if len(a) != 140 || len(b) != 140 {
			t.Errorf("%d and %d keys", len(a), len(b))
		}
		for k := range a {
			if a[k] != b[k] {
				t.Errorf("key %s differs", k)
			}
		}
		if out.Differences != 60 || out.Pulled != 40 || out.Pushed != 40 {
			t.Errorf("60 keys differed, 40 lacked something on each side: %+v", out)
		}
		if len(out.Anomalies) > 0 {
			t.Errorf("writes that never came are no anomaly: %s", out.Anomalies[0])
		}
	})
}

func TestAuditLeavesWritesThatAreOnTheirWay(t *testing.T) {
	inWorld(t, worldOptions{partitions: 4, tune: onlyAudits}, func(w *world) {
		w.quiet()
		var late [][]byte
		for i := range 50 {
			late = append(late, w.write(0, fmt.Sprint("k-", i), "v"))
		}
		done := make(chan auditOutcome)
		go func() { done <- w.mustAudit(0, 1, false) }()
		time.Sleep(lookAgain / 2)
		for _, b := range late {
			w.deliver(b, 1, 2)
		}
		out := <-done
		calls, _ := w.traffic()
		if out.Differences != 0 || calls["ae.fetch"]+calls["ae.offer"] != 0 || calls["ae.digests"] == 0 {
			t.Errorf("writes under way were merged: %+v, %v", out, calls)
		}
	})
}

func TestAuditEndsWhatOneHomeHasForgotten(t *testing.T) {
	for _, from := range []int{0, 1} {
		inWorld(t, worldOptions{partitions: 4, tune: onlyAudits}, func(w *world) {
			w.write(0, "k", "v", 1, 2)
			p := w.partitionOf("k")
			b := w.nodes[0].store.put(p, "k", "", nil, true, true, version.StampAt(time.Now()))
			w.deliver(b, 1, 2)
			w.quiet()
			time.Sleep(time.Minute)
			if ok, err := w.nodes[0].store.Purge(p, []byte("k"), version.LeafOf(b), uint64(time.Now().UnixMilli())); !ok || err != nil {
				t.Fatal(ok, err)
			}
			out := w.mustAudit(from, 1-from, false)
			if w.has(0, "k") || w.has(1, "k") || out.Differences != 1 {
				t.Errorf("from %d: a forgotten tombstone is at node 0: %v, at node 1: %v; %+v", from, w.has(0, "k"), w.has(1, "k"), out)
			}
			if len(out.Anomalies) > 0 {
				t.Errorf("what was forgotten here before there is no anomaly: %s", out.Anomalies[0])
			}
		})
	}
}

func TestVerdictsOfALossyHomeDropNothing(t *testing.T) {
	inWorld(t, worldOptions{partitions: 2, tune: onlyAudits}, func(w *world) {
		for i := range 100 {
			w.write(i%3, fmt.Sprint("k-", i), "v", 0, 1, 2)
		}
		w.quiet()
		s := w.nodes[1].store
		s.mu.Lock()
		for _, q := range s.parts { // its clocks claim all that is lost
			clear(q.records)
			q.lossy = true
		}
		s.mu.Unlock()
		out, err := w.auditAt(0, 1, false)
		if err != nil || len(out.Skipped) != 2 || out.Audited != 0 || !errors.Is(out.Skipped[0].why, errLossyThere) {
			t.Errorf("with a lossy home: %+v, %v", out, err)
		}
		if out, err = w.auditAt(1, 0, false); err != nil || len(out.Skipped) != 2 || !errors.Is(out.Skipped[0].why, errLossyHere) {
			t.Errorf("from a lossy home: %+v, %v", out, err)
		}
		for _, i := range []int{0, 1} {
			if _, err := w.auditAt(i, 1-i, true); err != nil {
				t.Error(err)
			}
		}
		if n := len(w.nodes[0].store.dump()); n != 100 {
			t.Errorf("%d of 100 records are left where none was lost", n)
		}
	})
}

func TestFullAuditFillsALossyHome(t *testing.T) {
	const n = 9000 // more than a page
	inWorld(t, worldOptions{partitions: 2, tune: onlyAudits}, func(w *world) {
		for i := range n {
			w.write(i%3, fmt.Sprint("k-", i), "v", 0, 1, 2)
		}
		w.quiet()
		s := w.nodes[1].store
		s.mu.Lock()
		for _, q := range s.parts {
			clear(q.records)
			s.rebuild(q)
			q.lossy = true
		}
		s.mu.Unlock()
		b := w.nodes[1].store.put(w.partitionOf("new"), "new", "v", nil, true, false, version.StampAt(time.Now()))
		began := time.Now()
		out := w.mustAudit(1, 0, true)
		if took := time.Since(began); took > lookAgain {
			t.Errorf("a full audit took %v: it waits for nothing", took)
		}
		if out.Differences != n+1 || out.Pulled != n || out.Pushed != 1 {
			t.Errorf("outcome %+v", out)
		}
		a, c := w.nodes[0].store.dump(), w.nodes[1].store.dump()
		if len(a) != n+1 || len(c) != n+1 || a["new"] != version.LeafOf(b) {
			t.Errorf("%d and %d keys", len(a), len(c))
		}
	})
}

func TestAnomalySaysKeyAndClaims(t *testing.T) {
	inWorld(t, worldOptions{partitions: 4, tune: onlyAudits}, func(w *world) {
		w.write(0, "odd-key", "v", 1, 2)
		w.quiet()
		w.rot(1, "odd-key")
		w.halt(2) // nobody can say what has become of it
		out := w.mustAudit(0, 1, false)
		st := w.nodes[0].repair.Status()
		if len(out.Anomalies) != 1 || st.Anomalies != 1 || st.LastAnomaly != out.Anomalies[0] {
			t.Fatalf("outcome %+v, status %+v", out, st)
		}
		for _, part := range []string{`"odd-key"`, fmt.Sprintf("partition %d", w.partitionOf("odd-key")),
			w.nodes[0].id.Short() + " has ", w.nodes[1].id.Short() + " has no record", "without", "claims it"} {
			if !strings.Contains(out.Anomalies[0], part) {
				t.Errorf("%q lacks %q", out.Anomalies[0], part)
			}
		}
	})
}

func TestAnomaliesAreLoggedOnceAKeyAndOnceASecond(t *testing.T) {
	var n noted
	now := time.Unix(1, 0)
	for i, want := range []struct {
		key    string
		after  time.Duration
		unsaid int
		ok     bool
	}{{"a", 0, 0, true}, {"a", time.Minute, 0, false}, {"b", time.Minute, 0, true}, {"c", 0, 0, false}, {"d", 0, 0, false},
		{"c", time.Second, 2, true}, {"b", time.Second, 0, false}} {
		now = now.Add(want.after)
		if unsaid, ok := n.first([]byte(want.key), now); unsaid != want.unsaid || ok != want.ok {
			t.Errorf("%d: %d, %v", i, unsaid, ok)
		}
	}
	for i := range 3 * anomalyKeysMax {
		now = now.Add(time.Second)
		n.first(fmt.Append(nil, i), now)
	}
	if len(n.keys) > anomalyKeysMax {
		t.Errorf("%d keys are remembered", len(n.keys))
	}
}

func TestFault33_FailedReadIsNeverTakenForAbsence(t *testing.T) {
	for _, broken := range []int{0, 1} {
		inWorld(t, worldOptions{partitions: 2, tune: onlyAudits}, func(w *world) {
			for i := range 50 {
				w.write(i%3, fmt.Sprint("k-", i), "v", 0, 1, 2)
			}
			w.quiet()
			w.write(0, "more", "v")
			s := w.nodes[broken].store
			die := func(err error) {
				s.mu.Lock()
				s.dead = err
				s.mu.Unlock()
			}
			die(store.ErrCorrupt)
			out, err := w.auditAt(0, 1, true)
			if err == nil && len(out.Skipped) != 2 {
				t.Errorf("an audit with damage at %d came to %+v", broken, out)
			}
			die(nil)
			if a, b := len(w.nodes[0].store.dump()), len(w.nodes[1].store.dump()); a != 51 || b != 50 {
				t.Errorf("%d and %d records are left", a, b)
			}
		})
	}
}

func TestLargeRecordsOfAnAuditGoAlone(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1, tune: onlyAudits}, func(w *world) {
		w.quiet()
		big := string(bytes.Repeat([]byte("x"), 3<<20))
		w.write(0, "a-big", big)
		w.write(1, "b-big", big)
		for i := range 5 {
			w.write(i%2, fmt.Sprint("c-", i), big[:500<<10])
		}
		w.traffic()
		out := w.mustAudit(0, 1, false)
		if out.Differences != 7 || w.nodes[0].store.dump()["a-big"] != w.nodes[1].store.dump()["a-big"] || !w.has(0, "b-big") {
			t.Errorf("outcome %+v", out)
		}
		calls, _ := w.traffic()
		if calls["ae.fetch"] < 2 || calls["ae.offer"] < 3 {
			t.Errorf("calls %v", calls)
		}
	})
}

func TestStrangersAreRefused(t *testing.T) {
	inWorld(t, worldOptions{nodes: 4, replicas: 2, partitions: 16, tune: onlyAudits}, func(w *world) {
		ctx := context.Background()
		for p := range ring.Partition(16) {
			homes := w.rec.Homes(p)
			var stranger *home
			for _, h := range w.nodes {
				if w.rec.HomeIndex(p, h.id) < 0 {
					stranger = h
				}
			}
			r := stranger.repair
			if _, err := ask(ctx, r, homes[0], listRoute, &listRequest{Partition: p}); err == nil {
				t.Errorf("partition %d is listed for a stranger", p)
			}
			if _, err := ask(ctx, r, homes[0], fetchRoute, &fetchRequest{Partition: p}); err == nil {
				t.Errorf("records of partition %d are given to a stranger", p)
			}
			if _, err := ask(ctx, r, homes[0], offerRoute, &offerRequest{Partition: p, Verdict: true}); err == nil {
				t.Errorf("partition %d takes a verdict of a stranger", p)
			}
			if _, err := ask(ctx, r, homes[0], purgeRoute, &purgeRequest{Partition: p}); err == nil {
				t.Errorf("partition %d is purged for a stranger", p)
			}
			if resp, err := ask(ctx, r, homes[0], rootsRoute, &rootsRequest{[]partitionRoot{{Partition: p}}}); err != nil || resp.States[0] != rootNotHome {
				t.Errorf("partition %d: %v, %v", p, resp, err)
			}
		}
	})
}

func TestListIsRefusedByAnOlderRingRecord(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1, tune: onlyAudits}, func(w *world) {
		r := w.nodes[0].repair
		if _, err := ask(context.Background(), r, w.nodes[1].id, listRoute, &listRequest{Epoch: w.rec.Epoch + 1}); err == nil {
			t.Error("a home that has an older ring record lists its keys")
		}
		if _, err := ask(context.Background(), r, w.nodes[1].id, listRoute, &listRequest{Epoch: w.rec.Epoch}); err != nil {
			t.Error(err)
		}
	})
}
