package antientropy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

func TestEveryPartitionIsAuditedWithEveryHomeInTurn(t *testing.T) {
	inWorld(t, worldOptions{partitions: 64, tune: func(c *Config) { onlyAudits(c); c.AuditEvery = 10 * time.Minute }}, func(w *world) {
		for i := range 500 {
			w.write(i%3, fmt.Sprint("k-", i), "v", 0, 1, 2)
		}
		w.quiet()
		time.Sleep(100 * time.Minute)
		calls, sizes := w.traffic()
		for _, h := range w.nodes {
			if n := h.repair.Status().Audited; n < 9*64*2 || n > 11*64*2 {
				t.Errorf("node %d: %d audits of a partition in ten rounds", h.i, n)
			}
		}
		if calls["ae.roots"] > 11*auditSlices*6 || sizes["ae.roots"] > 11*6*64*40 || len(calls) > 2 {
			t.Errorf("ten rounds cost %v calls, %v bytes", calls, sizes)
		}
	})
}

func TestScheduledAuditMendsWhatNobodyNoticed(t *testing.T) {
	inWorld(t, worldOptions{partitions: 16, tune: func(c *Config) { onlyAudits(c); c.AuditEvery = time.Minute }}, func(w *world) {
		for i := range 100 {
			w.write(i%3, fmt.Sprint("k-", i), "v", 0, 1, 2)
		}
		w.quiet()
		for i := range 20 {
			w.write(1, fmt.Sprint("k-", i), "new") // and nobody hears of it
		}
		w.eventually(3*time.Minute, "equal", w.equal)
	})
}

func TestUrgentPartitionsAreAuditedAtOnce(t *testing.T) {
	inWorld(t, worldOptions{partitions: 16, tune: onlyAudits}, func(w *world) {
		w.quiet()
		w.write(0, "k", "v")
		w.nodes[1].repair.auditSoon(w.partitionOf("k"))
		w.eventually(lookAgain+time.Second, "the other home has it", func() error {
			if !w.has(1, "k") {
				return errors.New("no record")
			}
			return nil
		})
		if calls, _ := w.traffic(); calls["ae.roots"] != 2 {
			t.Errorf("calls %v", calls)
		}
	})
}

func TestOperatorsAuditTellsHowFarItIs(t *testing.T) {
	inWorld(t, worldOptions{partitions: 8, tune: onlyAudits}, func(w *world) {
		w.quiet()
		for i := range 40 {
			w.write(0, fmt.Sprint("k-", i), "v")
		}
		r := w.nodes[1].repair
		if a := r.Audited(); a.Running || a.Partitions != 0 || a.Anomalies == nil || a.Problems == nil {
			t.Errorf("before the first: %+v", a)
		}
		a, err := r.Audit(api.AllPartitions)
		if err != nil || !a.Running || a.Partitions != 8 || a.Done != 0 {
			t.Fatalf("%+v, %v", a, err)
		}
		time.Sleep(time.Second)
		if b, err := r.Audit(3); err != nil || b.Partitions != 8 || !b.Running || b.Millis != 1000 {
			t.Errorf("an audit under way is joined: %+v, %v", b, err)
		}
		w.eventually(time.Minute, "done", func() error {
			if r.Audited().Running {
				return errors.New("running")
			}
			return nil
		})
		a = r.Audited()
		if a.Done != 8 || a.Skipped != 0 || a.Differences != 40 || a.Pulled != 40 || a.Pushed != 0 || len(a.Problems) != 0 || a.Millis < 2000 {
			t.Errorf("done: %+v", a)
		}
		if b, err := r.Audit(3); err != nil || b.Partitions != 1 {
			t.Errorf("one partition: %+v, %v", b, err)
		}
		for _, p := range []int{-2, 8} {
			if _, err := r.Audit(p); !errors.Is(err, api.ErrBadRequest) {
				t.Errorf("partition %d: %v", p, err)
			}
		}
	})
}

func TestOperatorsAuditNamesWhomItMissed(t *testing.T) {
	inWorld(t, worldOptions{partitions: 8, tune: onlyAudits}, func(w *world) {
		w.quiet()
		w.halt(2)
		w.write(0, "k", "v")
		r := w.nodes[1].repair
		s := w.nodes[1].store
		s.mu.Lock()
		s.part(w.partitionOf("k") + 1&7).lossy = true
		s.mu.Unlock()
		if _, err := r.Audit(api.AllPartitions); err != nil {
			t.Fatal(err)
		}
		w.eventually(5*time.Minute, "done", func() error {
			if r.Audited().Running {
				return errors.New("running")
			}
			return nil
		})
		a := r.Audited()
		if a.Done != 8 || a.Skipped != 8 || a.Pulled != 1 || !w.has(1, "k") {
			t.Errorf("with a home away: %+v", a)
		}
		text := strings.Join(a.Problems, "\n")
		if !strings.Contains(text, w.nodes[2].id.Short()) || !strings.Contains(text, errLossyHere.Error()) || len(a.Problems) > 3 {
			t.Errorf("problems: %s", text)
		}
	})
}

func TestAuditOfAPartitionThatIsElsewhereIsRefused(t *testing.T) {
	inWorld(t, worldOptions{nodes: 4, replicas: 2, partitions: 16, tune: onlyAudits}, func(w *world) {
		for p := range ring.Partition(16) {
			for _, h := range w.nodes {
				_, err := h.repair.Audit(int(p))
				if home := w.rec.HomeIndex(p, h.id) >= 0; home != (err == nil) || !home && !errors.Is(err, api.ErrNotHome) {
					t.Errorf("partition %d at node %d: %v", p, h.i, err)
				}
			}
		}
	})
}

func TestAuditEndsWithItsContext(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1, tune: onlyAudits}, func(w *world) {
		w.quiet()
		w.write(0, "k", "v")
		ctx, cancel := context.WithTimeout(context.Background(), lookAgain/2)
		defer cancel()
		began := time.Now()
		if _, err := w.nodes[0].repair.audit(ctx, w.nodes[1].id, 0, false); err == nil || time.Since(began) > lookAgain/2+time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		// And a node that stops in the middle of one leaves nothing behind.
		w.nodes[0].repair.auditSoon(0)
		time.Sleep(lookAgain / 2)
	})
}
