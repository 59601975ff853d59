package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kithdb/kith/client"
)

// Outcome is what a client was told of an operation.
type Outcome uint8

// Outcomes. Pending is one that was never told.
const (
	Pending Outcome = iota
	Done
	Refused
	Unknown
)

// String gives the outcome's name.
func (o Outcome) String() string {
	return [...]string{"pending", "done", "refused", "unknown"}[o]
}

// Op is one operation as its client knows it. Values of puts are unique in a
// history: they name the write.
type Op struct {
	Client string
	Read   bool
	Key    string
	Value  string // of a put; names a delete, which no read shows
	Delete bool
	// After is the read whose context a put carries; a put without one is
	// blind: it replaces what its coordinator holds.
	After *Op
	// Strict says that the level was a quorum or more: what a strict read
	// shows, or a strict put has done, every later strict read shows.
	Strict bool
	// TTL of a put's value, counted from when it is minted; 0 is for ever.
	TTL time.Duration
	// Sloppy says that a stand-in was counted for a home: such a put that is
	// done is not Strict.
	Sloppy bool
	// Deadline is when the client gives up.
	Deadline time.Time
	Began    time.Time
	Ended    time.Time
	Outcome  Outcome
	Saw      []string // values that a read has shown, sorted
	Note     string   // the error, and who coordinated
	// Receipt of an operation that is done; nil is not known.
	Receipt *Receipt

	context client.Context // that a put returned
	under   client.Context // that it carried
	may     []string       // values that the context of this read may cover beside Saw
}

// Next stands for what the writer of a put that is done knows after it, with the
// context that the put returned: it covers what the put had seen, and the put
// itself unless a sibling stands in between.
func (o *Op) Next() *Read {
	read := &Op{Client: o.Client, Read: true, Key: o.Key, Outcome: Done, may: []string{o.Value}}
	if o.After != nil {
		read.Saw, read.may = o.After.Saw, append(read.may, o.After.may...)
	}
	return &Read{Op: read, Context: o.context}
}

// String tells the operation in one line.
func (o *Op) String() string {
	what := "get " + o.Key
	switch {
	case o.Read && o.Outcome == Done:
		what += " shows " + strings.Join(o.Saw, ", ")
		if len(o.Saw) == 0 {
			what += "nothing"
		}
	case !o.Read:
		what = fmt.Sprintf("put %s = %s", o.Key, o.Value)
		if o.Delete {
			what = fmt.Sprintf("delete %s (%s)", o.Key, o.Value)
		}
		switch {
		case o.After == nil:
			what += ", blind"
		case len(o.After.may) > 0:
			what += ", after " + list(o.After.Saw) + " and perhaps " + list(o.After.may)
		default:
			what += ", after " + list(o.After.Saw)
		}
		if o.TTL > 0 {
			what += fmt.Sprintf(", for %v", o.TTL)
		}
		if o.Sloppy {
			what += ", sloppy"
		}
	}
	level := "one"
	if o.Strict {
		level = "quorum"
	}
	return fmt.Sprintf("%s: %s (%s): %s %s", o.Client, what, level, o.Outcome, o.Note)
}

// History is all that clients have done. It is safe for concurrent use while
// they run.
type History struct {
	mu    sync.Mutex // guards ops until all have ended
	began time.Time
	ops   []*Op
	// late is how long after its client gave up a put may be minted at the
	// latest; 0 if clocks were wrong, and nobody can tell.
	late time.Duration
	// minted is when values were minted that reads have shown, by the clock of
	// the home that did it.
	minted map[string]time.Time
	// remains is what was left when machines were given up; nil if none was.
	remains *Remains
	// final is when each key was read in the end.
	final map[string]span
}

// span is a time from its beginning to its end; zero is not known.
type span struct{ from, to time.Time }

// NewHistory begins a history.
func NewHistory() *History {
	return &History{began: time.Now(), minted: map[string]time.Time{}, final: map[string]span{}}
}

// ClocksRight says that no clock is ever wrong in this history: then more can be
// checked.
func (h *History) ClocksRight() { h.late = lateMax }

// Begin enters an operation.
func (h *History) Begin(o *Op) *Op {
	o.Began = time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
	return o
}

// End enters what its client was told.
func (h *History) End(o *Op, outcome Outcome, saw []string, note string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.Ended, o.Outcome, o.Note = time.Now(), outcome, note
	o.Saw = slices.Sorted(slices.Values(saw))
}

// sawMinted notes when a value that was read had been minted.
func (h *History) sawMinted(value string, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.minted[value] = at
}

// Ops gives the operations in the order of their beginning.
func (h *History) Ops() []*Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.ops)
}

// mortal is when the last put may have been minted that expires.
func (h *History) mortal() time.Time {
	var last time.Time
	for _, o := range h.Ops() {
		if o.TTL > 0 && o.Deadline.After(last) {
			last = o.Deadline
		}
	}
	return last
}

// deletes says that something was deleted, or has expired.
func (h *History) deletes() bool {
	return slices.ContainsFunc(h.Ops(), func(o *Op) bool { return o.Delete || o.TTL > 0 })
}

// Keys are those that were written.
func (h *History) Keys() []string {
	seen := map[string]bool{}
	var keys []string
	for _, o := range h.Ops() {
		if !o.Read && !seen[o.Key] {
			seen[o.Key] = true
			keys = append(keys, o.Key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Count gives how many operations had an outcome.
func (h *History) Count(o Outcome) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, op := range h.ops {
		if op.Outcome == o {
			n++
		}
	}
	return n
}

// Story tells all that happened to a key.
func (h *History) Story(key string) string {
	var b strings.Builder
	ops := slices.DeleteFunc(h.Ops(), func(o *Op) bool { return o.Key != key })
	slices.SortStableFunc(ops, func(a, b *Op) int { return cmp.Or(a.Began.Compare(b.Began), a.Ended.Compare(b.Ended)) })
	for _, o := range ops {
		fmt.Fprintf(&b, "%9.4f to %9.4f  %v\n", o.Began.Sub(h.began).Seconds(), o.Ended.Sub(h.began).Seconds(), o)
	}
	return b.String()
}
