package kv_test

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/quorum"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/network"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// note has node i note one source more for its pull of a partition.
func (w *world) note(i int, p ring.Partition, since uint64, from int) {
	w.t.Helper()
	if err := w.nodes[i].store.NotePulled(p, ring.Pulled{By: nodeID(i), Since: since, From: []ring.NodeID{nodeID(from)}}); err != nil {
		w.t.Fatal(err)
	}
}

// moving is a key whose partition moves its last slot: the nodes of the other homes,
// of that home and of the target.
type moving struct {
	key      string
	p        ring.Partition
	a, b     int
	from, to int
}

func (w *world) moving() moving {
	key := "k"
	homes, others := w.homesIn(w.record, key), []int(nil)
	for i := range w.nodes {
		if !slices.Contains(homes, i) {
			others = append(others, i)
		}
	}
	return moving{key, w.record.PartitionOf([]byte(key)), homes[0], homes[1], homes[2], others[0]}
}

// phase has everybody hold the record in which the move has come to a phase.
func (w *world) phase(m moving, phase ring.Phase) *ring.Record {
	w.t.Helper()
	r := w.inPhase(m, phase)
	w.adopt(r, 0, 1, 2, 3, 4)
	return r
}

// inPhase is that record.
func (w *world) inPhase(m moving, phase ring.Phase) *ring.Record {
	w.t.Helper()
	r, err := w.record.WithMoves([]ring.Move{{Partition: m.p, Slot: 2, To: nodeID(m.to)}})
	for _, s := range map[ring.Phase][]ring.Step{
		ring.PhaseDual: {ring.StepDual}, ring.PhaseReadNew: {ring.StepDual, ring.StepReadNew},
		ring.PhaseBack: {ring.StepDual, ring.StepReadNew, ring.StepBack},
	}[phase] {
		if err == nil {
			r, err = r.WithSteps([]ring.StepTo{{Partition: m.p, Step: s}})
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

var movePhases = []ring.Phase{ring.PhaseDual, ring.PhaseReadNew, ring.PhaseBack}

// A write is acknowledged by homes of now and of then: where one other home is gone,
// neither end of the move will do without the other.
func TestBothEndsOfAMoveCountAsOneHome(t *testing.T) {
	for _, phase := range movePhases {
		inWorld(t, 5, 3, func(w *world) {
			m := w.moving()
			r := w.phase(m, phase)
			resp := w.mustPut(m.a, m.key, "all", nil)
			if resp.Receipt.Epoch != r.Epoch || w.own(m.from, m.key) == nil || w.own(m.to, m.key) == nil {
				t.Errorf("%v: receipt %+v; at its ends %v and %v", phase, resp.Receipt, w.own(m.from, m.key), w.own(m.to, m.key))
			}
			w.nodes[m.to].host.Pause()
			w.mustPut(m.a, m.key, "without the target", nil)
			w.nodes[m.b].host.Pause()
			if _, err := w.put(m.a, api.PutRequest{Key: []byte(m.key), Value: []byte("v")}); !errors.Is(err, api.ErrUnknown) && !errors.Is(err, api.ErrUnavailable) {
				t.Errorf("%v: with the home before alone: %v", phase, err)
			}
			w.nodes[m.to].host.Resume()
			w.nodes[m.from].host.Pause()
			time.Sleep(time.Second)
			_, err := w.put(m.a, api.PutRequest{Key: []byte(m.key), Value: []byte("v")})
			var unmet *quorum.UnmetError
			if !errors.As(err, &unmet) || unmet.Slots != 3 || unmet.Got >= 2 {
				t.Errorf("%v: with the target alone: %v", phase, err)
			}
			w.nodes[m.from].host.Resume()
			time.Sleep(5 * time.Second)
			w.mustPut(m.a, m.key, "with both ends", nil)
		})
	}
}

func TestAQueuedMoveChangesNothing(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		m := w.moving()
		w.phase(m, ring.PhasePlan)
		w.mustPut(m.a, m.key, "v", nil)
		if _, err := w.get(m.b, m.key, api.All); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if w.own(m.to, m.key) != nil {
			t.Error("the target has it before its time")
		}
	})
}

// Reads ask one end, and that one answers only when it has pulled what it must.
func TestReadsAskTheEndThatHasPulled(t *testing.T) {
	for _, phase := range movePhases {
		inWorld(t, 5, 3, func(w *world) {
			m := w.moving()
			w.mustPut(m.a, m.key, "v", nil)
			r := w.phase(m, phase)
			w.mustPut(m.a, m.key, "v", nil)
			reader, before := m.from, m.to
			if phase == ring.PhaseReadNew {
				reader, before = m.to, m.from
			}
			if phase > ring.PhaseDual {
				if _, err := w.get(m.a, m.key, api.All); !errors.Is(err, api.ErrUnavailable) {
					t.Errorf("%v: one of all has not pulled: %v", phase, err)
				}
				if got := w.values(m.a, m.key, api.Quorum); !maps.Equal(got, set("v")) {
					t.Errorf("%v: a quorum shows %v", phase, got)
				}
				if _, err := w.get(reader, m.key, api.All); !errors.Is(err, api.ErrUnavailable) {
					t.Errorf("%v: the coordinator has not pulled: %v", phase, err)
				}
			}
			w.note(reader, m.p, r.Since[m.p], before)
			for via := range w.nodes {
				resp, err := w.get(via, m.key, api.All)
				if err != nil {
					t.Fatalf("%v: through %d: %v", phase, via, err)
				}
				if len(resp.Receipt.Answered) != 3 || !slices.Contains(resp.Receipt.Answered, nodeID(reader)) {
					t.Errorf("%v: answered: %v, want %s among them", phase, resp.Receipt.Answered, nodeID(reader).Short())
				}
			}
			if all := w.scanAll(m.b, api.ScanRequest{Partition: uint16(m.p), R: api.All}); all[m.key] != "v" {
				t.Errorf("%v: a scan shows %v", phase, all)
			}
		})
	}
}

// The target of a move takes writes and mints none: a put that comes to it goes to a
// home.
func TestTheTargetOfAMoveMintsNothing(t *testing.T) {
	for _, phase := range movePhases {
		inWorld(t, 5, 3, func(w *world) {
			m := w.moving()
			w.phase(m, phase)
			resp := w.mustPut(m.to, m.key, "v", nil)
			if resp.Receipt.Coordinator == nodeID(m.to) {
				t.Errorf("%v: the target has minted", phase)
			}
			if _, err := w.put(m.to, api.PutRequest{Key: []byte(m.key), Value: []byte("v"), Forwarded: true}); !errors.Is(err, api.ErrNotHome) {
				t.Errorf("%v: forwarded to the target: %v", phase, err)
			}
		})
	}
}

// The target has its own copy to keep: it stands in for nobody, or one disk would
// count twice.
func TestTheTargetOfAMoveStandsInForNobody(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		m := w.moving()
		w.phase(m, ring.PhaseDual)
		w.nodes[m.b].host.Crash()
		w.nodes[m.from].host.Crash()
		sloppy := api.PutRequest{Key: []byte(m.key), Value: []byte("v"), Sloppy: true}
		resp, err := w.put(m.a, sloppy)
		if err != nil || !resp.Receipt.Sloppy {
			t.Errorf("with one member to stand in: %+v, %v", resp, err)
		}
		for i, h := range w.nodes {
			if i != m.a && i != m.to {
				h.host.Crash()
			}
		}
		if resp, err := w.put(m.a, sloppy); err == nil {
			t.Errorf("with the target alone: %+v", resp)
		}
	})
}

// keep stores a value at one node alone, as a write that was acknowledged nowhere.
func (w *world) keep(i int, m moving, value string) {
	w.t.Helper()
	w.keepAs(i, m, version.Dot{Actor: 77, Seq: 1}, value)
}

// keepAs is keep for several keys, each with a dot of its own.
func (w *world) keepAs(i int, m moving, dot version.Dot, value string) {
	w.t.Helper()
	r := version.Record{Key: []byte(m.key)}.Put(nil, version.NewSibling(dot, 1, 0, []byte(value)))
	done := make(chan error, 1)
	w.nodes[i].store.Merge(&store.Merge{Partition: m.p, Record: r, Encoded: r.Append(nil), Sink: committed(func(err error) { done <- err })})
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
}

type committed func(error)

// Committed implements store.MergeSink.
func (f committed) Committed(err error) { f(err) }

// What a read has shown is at both ends, or at enough others: a later read may ask
// either end.
func TestWhatAReadWritesBackCountsAtBothEnds(t *testing.T) {
	for _, phase := range movePhases {
		inWorld(t, 5, 3, func(w *world) {
			m := w.moving()
			r := w.phase(m, phase)
			reader, before := m.from, m.to
			if phase == ring.PhaseReadNew {
				reader, before = m.to, m.from
			}
			w.note(reader, m.p, r.Since[m.p], before)
			w.keep(m.a, m, "shown")
			w.nodes[m.b].host.Pause()
			w.nodes[before].host.Pause()
			if resp, err := w.get(m.a, m.key, api.Quorum); !errors.Is(err, api.ErrUnavailable) {
				t.Fatalf("%v: without the other end: %+v, %v", phase, resp, err)
			}
			w.nodes[before].host.Resume()
			time.Sleep(5 * time.Second)
			if got := w.values(m.a, m.key, api.Quorum); !maps.Equal(got, set("shown")) {
				t.Fatalf("%v: it shows %v", phase, got)
			}
			w.nodes[m.b].host.Resume()
		})
	}
}

// What a read writes back is fenced: a home that has adopted the next phase meanwhile
// refuses it, and the read begins anew by that record.
func TestWhatAReadWritesBackIsFenced(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		m := w.moving()
		w.net.SetDefault(network.Link{Latency: 40 * time.Millisecond})
		w.keep(m.a, m, "shown")
		w.nodes[m.b].host.Pause()
		adopted := make(chan *ring.Record, 1)
		// By then the home has shown its copy, and what is written back is on its way.
		soon := time.AfterFunc(370*time.Millisecond, func() { adopted <- w.phase(m, ring.PhaseDual) })
		defer soon.Stop()
		resp, err := w.get(m.a, m.key, api.Quorum)
		if err != nil {
			t.Fatal(err)
		}
		if dual := <-adopted; resp.Receipt.Epoch != dual.Epoch || w.own(m.to, m.key) == nil {
			t.Errorf("receipt %+v, at the target %v", resp.Receipt, w.own(m.to, m.key))
		}
		w.nodes[m.b].host.Resume()
	})
}
