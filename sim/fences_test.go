package sim

import (
	"errors"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
)

// held enters that members have held the record of an epoch since a time.
func (k *course) held(at time.Time, epoch uint64, who ...ring.NodeID) {
	for _, id := range who {
		k.rings.held[id] = append(k.rings.held[id], holding{at, k.rings.At(epoch)})
	}
}

// stepped is what is wrong with a step, before which some hold the record of its phase:
// everybody has held the one of before that, and d is the first to hold the next one.
// What comes in between was decided, and nobody is known to have held it.
func (k *course) stepped(before, phase, next uint64, who []ring.NodeID) error {
	now := time.Now()
	k.held(now, before, k.a, k.b, k.c, k.d)
	k.held(now.Add(time.Second), phase, who...)
	k.held(now.Add(2*time.Second), next, k.d)
	for _, epoch := range k.rings.Epochs() {
		if epoch > before && epoch != phase && epoch != next {
			delete(k.rings.records, epoch)
		}
	}
	return k.rings.checkSteps()
}

// breaks wants an error that breaks a promise, or none for an empty text.
func breaks(t *testing.T, err error, promise Promise, want string) {
	t.Helper()
	errorIs(t, err, want)
	var b *Broken
	if err != nil && (!errors.As(err, &b) || b.Promise != promise) {
		t.Errorf("%v does not break %q", err, promise)
	}
}

// An acknowledgement counts for the epoch by which it was asked for: who gives it has
// adopted that.
func TestWhoIsCountedForAnEpochItHasNotAdoptedIsFound(t *testing.T) {
	for name, test := range map[string]struct {
		after time.Duration // the operation's beginning, which takes a second
		want  string
	}{
		"adopted before":    {-time.Second, ""},
		"adopted meanwhile": {time.Second / 2, ""},
		"adopted later":     {2 * time.Second, "is counted, and had not adopted"},
	} {
		t.Run(name, func(t *testing.T) {
			k, s := courseOf(t), newScript()
			k.held(s.at.Add(-time.Minute), k.idle, k.a, k.b, k.d)
			k.held(s.at.Add(-time.Second), k.dual, k.a, k.b)
			k.held(s.at.Add(test.after), k.dual, k.d)
			s.wrote(k.dual, k.a, k.b, k.d)
			breaks(t, CheckQuorums(s.History, k.rings), Counted, test.want)
		})
	}
}

// A step by which reads are handed over comes when those who answered before have adopted
// the phase: the one who did, or enough of the others.
func TestAStepBeforeItsFenceIsFound(t *testing.T) {
	for name, test := range map[string]struct {
		phase, next func(k *course) uint64
		who         func(k *course) []ring.NodeID // has adopted the phase
		want        string
	}{
		"by the source":         {dualOf, readNewOf, func(k *course) []ring.NodeID { return []ring.NodeID{k.a, k.d} }, ""},
		"by the others":         {dualOf, readNewOf, func(k *course) []ring.NodeID { return []ring.NodeID{k.b, k.c, k.d} }, ""},
		"by one of the others":  {dualOf, readNewOf, func(k *course) []ring.NodeID { return []ring.NodeID{k.b, k.d} }, "did not hold epoch"},
		"by the target alone":   {dualOf, readNewOf, func(k *course) []ring.NodeID { return []ring.NodeID{k.d} }, "did not hold epoch"},
		"done by the source":    {laterOf, doneOf, func(k *course) []ring.NodeID { return []ring.NodeID{k.a, k.d} }, ""},
		"done by the target":    {laterOf, doneOf, func(k *course) []ring.NodeID { return []ring.NodeID{k.d} }, "did not hold epoch"},
		"back by the target":    {backOf, abortedOf, func(k *course) []ring.NodeID { return []ring.NodeID{k.a, k.d} }, ""},
		"back by the source":    {backOf, abortedOf, func(k *course) []ring.NodeID { return []ring.NodeID{k.a} }, "did not hold epoch"},
		"turned back, at once":  {readNewOf, backOf, func(k *course) []ring.NodeID { return []ring.NodeID{k.d} }, ""},
		"a move that is queued": {func(k *course) uint64 { return k.aborted + 1 }, func(k *course) uint64 { return k.again }, func(k *course) []ring.NodeID { return []ring.NodeID{k.d} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			k := courseOf(t)
			breaks(t, k.stepped(k.idle, test.phase(k), test.next(k), test.who(k)), Handed, test.want)
		})
	}
}

func dualOf(k *course) uint64    { return k.dual }
func readNewOf(k *course) uint64 { return k.readNew }
func backOf(k *course) uint64    { return k.back }
func abortedOf(k *course) uint64 { return k.aborted }
func laterOf(k *course) uint64   { return k.later }
func doneOf(k *course) uint64    { return k.done }

// Who takes reads over answers them behind the fence of that.
func TestAReaderThatAnswersBeforeItTookOverIsFound(t *testing.T) {
	for name, test := range map[string]struct {
		epoch, before  func(k *course) uint64
		reader, source func(k *course) ring.NodeID
	}{
		"the target":                  {readNewOf, dualOf, func(k *course) ring.NodeID { return k.d }, func(k *course) ring.NodeID { return k.a }},
		"on the way back, the source": {backOf, readNewOf, func(k *course) ring.NodeID { return k.a }, func(k *course) ring.NodeID { return k.d }},
	} {
		for _, after := range []time.Duration{-time.Second, 3 * time.Second} {
			k, s := courseOf(t), newScript()
			k.held(s.at.Add(-time.Minute), test.before(k), k.a, k.b, k.c, k.d)
			k.held(s.at.Add(-time.Second), test.epoch(k), test.reader(k), k.b)
			k.held(s.at.Add(after), test.epoch(k), test.source(k))
			for _, epoch := range k.rings.Epochs() { // of the steps, nothing is asked here
				if epoch != test.epoch(k) {
					delete(k.rings.records, epoch)
				}
			}
			s.read(test.epoch(k), test.reader(k), k.b)
			want := ""
			if after > 0 {
				want = "has answered, and who did before"
			}
			t.Run(name, func(t *testing.T) { breaks(t, CheckQuorums(s.History, k.rings), Handed, want) })
		}
	}
}

// A move whose target has answered reads ends by a way back, or with the slot there.
func TestAMoveThatEndsBesideItsReaderIsFound(t *testing.T) {
	k := courseOf(t)
	for name, test := range map[string]struct {
		prev, next uint64
		want       string
	}{
		"done":                   {k.later, k.done, ""},
		"turned back":            {k.readNew, k.back, ""},
		"aborted after that":     {k.back, k.aborted, ""},
		"aborted straight":       {k.readNew, k.aborted, "was turned back"},
		"aborted, and then anew": {k.readNew, k.again, "was turned back"},
	} {
		t.Run(name, func(t *testing.T) { errorIs(t, readersEnd(k.rings.At(test.prev), k.rings.At(test.next)), test.want) })
	}
}
