package sim

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kithdb/kith/sim/network"
	"github.com/kithdb/kith/sim/trace"
)

// Recorded is a run and all that happened in it.
type Recorded struct {
	*Result
	Trace *trace.Run
	// Messages counts the events of the network.
	Messages int
	// Hash is that of everything: faults, operations and every event of the
	// network, each with its virtual time. What happens at one instant has
	// no order, and is sorted. With scripted membership, one processor and
	// no race detector, one seed has one hash.
	Hash string
}

// RunRecorded is Run with a record. The trace's Title and Replay are the
// caller's to fill.
func RunRecorded(o Options, s Story) *Recorded {
	o.setDefaults()
	rec := &recorder{sum: sha256.New()}
	listen, told := o.Network.Trace, o.Tell
	o.Network.Trace = func(e network.Event) {
		rec.message(e)
		if listen != nil {
			listen(e)
		}
	}
	o.Tell = func(t Told) {
		rec.told(t)
		if told != nil {
			told(t)
		}
	}
	r := Run(o, s)
	r.Options.Network.Trace, r.Options.Tell = listen, told
	out := &Recorded{Result: r, Trace: rec.trace(r), Messages: rec.messages}
	rec.finish(out.Trace)
	out.Hash = hex.EncodeToString(rec.sum.Sum(nil))
	return out
}

// recorder hears all that happens in one run.
type recorder struct {
	mu       sync.Mutex // guards what follows; bubbles with the race detector have many processors
	sum      hash.Hash
	began    time.Time // of the first event
	instant  time.Time
	now      []string // what happened at the instant
	messages int
	faults   []Told
}

func (rec *recorder) message(e network.Event) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.began.IsZero() {
		rec.began = e.At
	}
	if !e.At.Equal(rec.instant) {
		rec.flush()
		rec.instant = e.At
	}
	rec.messages++
	rec.now = append(rec.now, fmt.Sprintf("%d %s %s %s %s %d\n", e.At.Sub(rec.began), e.What, e.From, e.To, e.Note, e.Size))
}

// flush hashes what happened at one instant. The recorder is locked.
func (rec *recorder) flush() {
	slices.Sort(rec.now)
	for _, line := range rec.now {
		rec.sum.Write([]byte(line))
	}
	rec.now = rec.now[:0]
}

func (rec *recorder) told(t Told) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.faults = append(rec.faults, t)
}

// order puts the answers that several operators had at one instant into one order,
// behind the faults of that instant.
func (rec *recorder) order() {
	answer := func(t Told) string {
		if t.Fault == answered {
			return t.Note
		}
		return ""
	}
	slices.SortStableFunc(rec.faults, func(a, b Told) int {
		return cmp.Or(a.At.Compare(b.At), strings.Compare(answer(a), answer(b)))
	})
}

// finish hashes what is left, and what clients and faults have done.
func (rec *recorder) finish(run *trace.Run) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.flush()
	for _, e := range run.Events {
		fmt.Fprintf(rec.sum, "%d %s %v %s\n", e.At, e.Kind, e.Nodes, e.Note)
	}
	for _, o := range run.Ops {
		fmt.Fprintf(rec.sum, "%d %d %s %s %s %s %s %s %s\n", o.At, o.Took, o.Client, o.Kind, o.Key, o.Value, o.Level, o.Outcome, o.Note)
	}
}

// trace gives the run in the words of all runners.
func (rec *recorder) trace(r *Result) *trace.Run {
	out := &trace.Run{
		Seed: r.Options.Seed, World: "scripted", Length: r.Virtual, Wall: r.Wall,
		Replicas: r.Options.Replicas, Partitions: r.Options.Partitions,
	}
	if r.Options.Serf {
		out.World = "serf"
	}
	for i := range r.Options.Nodes {
		out.Nodes = append(out.Nodes, trace.Node{Name: machineName(i)})
	}
	rec.order()
	for _, t := range rec.faults {
		e := trace.Event{At: t.At.Sub(r.History.began), Kind: kindOf(t), Note: t.String()}
		if slices.ContainsFunc(out.Nodes, func(n trace.Node) bool { return n.Name == t.Note }) {
			e.Nodes = []string{t.Note}
		}
		out.Events = append(out.Events, e)
	}
	missed := Missed(r.History)
	for _, o := range r.History.Ops() {
		t := traceOf(o, r.History.began)
		if put := missed[o]; put != nil {
			t.Stale, t.Behind = true, o.Began.Sub(put.Ended)
		}
		out.Ops = append(out.Ops, t)
	}
	slices.SortStableFunc(out.Ops, func(a, b trace.Op) int {
		if a.At != b.At {
			return int(a.At - b.At)
		}
		return strings.Compare(a.Client, b.Client)
	})
	out.Checks = checks(r.Err)
	if key := r.Key(); key != "" {
		out.Story = trace.Story{Key: key, Lines: strings.Split(strings.TrimRight(r.History.Story(key), "\n"), "\n")}
	}
	return out
}

// kinds are what faults are called in traces, when they begin and when they end.
var kinds = map[string][2]string{
	halves.Name: {"partition", "heal"}, isolate.Name: {"isolate", "heal"}, oneWay.Name: {"cut", "heal"},
	lossy.Name: {"link", "link"}, late.Name: {"link", "link"},
	pause.Name: {"pause", "resume"}, kill.Name: {"crash", "start"}, powerCut.Name: {"powercut", "start"},
	slowDisk.Name: {"disk", "disk"}, syncError.Name: {"disk", "disk"}, diskFull.Name: {"disk", "disk"},
	clockJump.Name: {"clock", "clock"},
	bitRot.Name:    {"disk", "disk"}, tableRot.Name: {"disk", "disk"}, lostDisk.Name: {"crash", "start"},
}

func kindOf(t Told) string {
	kind, ok := kinds[t.Fault]
	switch {
	case !ok:
		return "note"
	case t.End:
		return kind[1]
	}
	return kind[0]
}

func traceOf(o *Op, began time.Time) trace.Op {
	t := trace.Op{
		At: o.Began.Sub(began), Took: o.Ended.Sub(o.Began), Client: o.Client, Kind: "put", Key: o.Key, Value: o.Value,
		Level: "one", Context: !o.Read && o.After != nil, Outcome: trace.Outcome(o.Outcome.String()), Note: o.Note,
	}
	if o.Strict {
		t.Level = "quorum"
	}
	if o.Ended.IsZero() {
		t.Took = 0
	}
	switch {
	case o.Read:
		t.Kind, t.Value = "get", strings.Join(o.Saw, ", ")
	case o.Delete:
		t.Kind = "delete"
	}
	if t.Context {
		t.Note = "after " + list(o.After.Saw) + ", " + o.Note
	}
	return t
}

// CanBePlayed is the check that runs fail which break no promise by name: the
// cluster never got ready, say.
const CanBePlayed Promise = "the story can be played to its end"

// Promise names what the run broke; empty if all held.
func (r *Result) Promise() Promise {
	var b *Broken
	switch {
	case r.Err == nil:
		return ""
	case errors.As(r.Err, &b):
		return b.Promise
	}
	return CanBePlayed
}

// Key is the one that broke a promise; empty if it was not one key's.
func (r *Result) Key() string {
	if r.Err == nil {
		return ""
	}
	_, rest, _ := strings.Cut(r.Err.Error(), ": key ")
	key, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	if key = strings.TrimSuffix(key, ":"); slices.Contains(r.History.Keys(), key) {
		return key
	}
	return ""
}

// checks gives a verdict on every promise.
func checks(err error) []trace.Check {
	broke := (&Result{Err: err}).Promise()
	var out []trace.Check
	for _, p := range append(Promises(), InTime, Converged, OneRing, ChangesEnd, NotesTrue, Fenced, Intersect, Counted, Handed, Repaired, TreesTrue, Bounded, CanBePlayed) {
		c := trace.Check{Name: string(p), OK: p != broke}
		if !c.OK {
			c.Detail, _, _ = strings.Cut(err.Error(), "\n")
		}
		out = append(out, c)
	}
	return out
}
