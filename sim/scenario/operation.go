package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/trace"
)

// actor is a client and where it stands.
type actor struct {
	*client.Client
	name  string
	load  string // that it belongs to
	place int    // the node that it stands beside; -1 is nowhere
}

// operation is an operation as the history has it, and what else is known of it.
type operation struct {
	*sim.Op
	trace trace.Op
	actor *actor
	level Level
	homes int // that the key had when it began
	held  int // how many of these ran on the client's side
	// answered are the homes that answered a read that was done.
	answered []ring.NodeID
}

// read is a read with the context that a put can carry.
type read struct {
	*operation
	context client.Context
}

// padding stands between a value's name and what makes it long.
const padding = "~"

// strict says that a level makes what it did known to every later strict read.
func (r *runner) strict(l Level) bool { return l.Homes(r.homesMost()) > r.homesMost()/2 }

func callLevel(l Level) client.Level {
	switch l {
	case One:
		return client.One
	case Quorum:
		return client.Quorum
	case All:
		return client.All
	}
	return client.R(int(l))
}

// begin enters an operation. Any goroutine may call it.
func (r *runner) begin(a *actor, kind string, level Level, op *sim.Op) *operation {
	op.Client, op.Strict = a.name, r.strict(level)
	side, homes := r.ways.side(a.place), r.homesOf(op.Key)
	o := &operation{
		actor: a, level: level, homes: len(homes), held: r.ways.held(homes, side),
		trace: trace.Op{
			At: r.now(), Client: a.name, Side: strings.Join(r.list(side), ","), Kind: kind, Key: op.Key,
			Value: op.Value, Level: level.String(), Context: op.After != nil,
		},
	}
	if kind == "delete" {
		o.trace.Value = ""
	}
	o.Op = r.history.Begin(op)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, o)
	return o
}

// end enters what became of an operation.
func (r *runner) end(o *operation, outcome sim.Outcome, saw []string, by ring.NodeID, err error) {
	note, via := "", ""
	if i, ok := r.names.of(by); ok {
		via = r.Nodes[i]
		note = "by " + via
	}
	if err != nil {
		note = r.names.in(why(err))
	}
	r.history.End(o.Op, outcome, saw, note)
	r.mu.Lock()
	defer r.mu.Unlock()
	o.trace.Via, o.trace.Took, o.trace.Outcome = via, r.now()-o.trace.At, trace.Outcome(outcome.String())
	if err != nil {
		o.trace.Note = note
	}
	if o.Read {
		o.trace.Value = strings.Join(o.Saw, " ")
	}
}

// why is an error without what the operation's own line says.
func why(err error) string {
	var e *client.Error
	if !errors.As(err, &e) || e.Err == nil {
		return err.Error()
	}
	return e.Err.Error()
}

// get reads a key.
func (r *runner) get(a *actor, key string, level Level, limit time.Duration) *read {
	o := r.begin(a, "get", level, &sim.Op{Key: key, Read: true})
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	result, err := a.Get(ctx, []byte(key), callLevel(level))
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		r.end(o, sim.Refused, nil, ring.NodeID{}, err)
		return &read{operation: o}
	}
	o.answered = result.Receipt.Answered
	o.Receipt = sim.ReceiptOf(result.Receipt)
	r.end(o, sim.Done, shown(result), result.Receipt.Coordinator, nil)
	return &read{o, result.Context}
}

// shown are the names of the values that a read has shown.
func shown(result client.Result) []string {
	var out []string
	for _, s := range result.Siblings {
		if !s.Deleted {
			value, _, _ := strings.Cut(string(s.Value), padding)
			out = append(out, value)
		}
	}
	slices.Sort(out)
	return out
}

// write is a put or a delete that an actor does.
type write struct {
	key, value string // the value's name
	size       int    // how long the value is, at least
	remove     bool
	after      *read // whose context it carries; nil is a blind put
	level      Level
	limit      time.Duration
	ttl        time.Duration
	sloppy     bool
}

// write puts or deletes.
func (r *runner) write(a *actor, w write) *operation {
	op, kind := &sim.Op{Key: w.key, Value: w.value, Delete: w.remove, TTL: w.ttl}, "put"
	if w.remove {
		kind = "delete"
	}
	opts := []client.CallOption{callLevel(w.level)}
	if w.after != nil {
		op.After = w.after.Op
		opts = append(opts, client.WithContext(w.after.context))
	}
	if w.ttl > 0 {
		opts = append(opts, client.WithTTL(w.ttl))
	}
	if w.sloppy {
		opts = append(opts, client.Sloppy())
	}
	op.Deadline = time.Now().Add(w.limit)
	o := r.begin(a, kind, w.level, op)
	ctx, cancel := context.WithTimeout(context.Background(), w.limit)
	defer cancel()
	var written client.Written
	var err error
	if w.remove {
		written, err = a.Delete(ctx, []byte(w.key), opts...)
	} else {
		written, err = a.Put(ctx, []byte(w.key), padded(w.value, w.size), opts...)
	}
	switch {
	case err == nil:
		if written.Receipt.Sloppy && w.sloppy {
			op.Sloppy, op.Strict = true, false
		}
		op.Receipt = sim.ReceiptOf(written.Receipt)
		r.end(o, sim.Done, nil, written.Receipt.Coordinator, nil)
	case client.Unknown(err):
		r.end(o, sim.Unknown, nil, ring.NodeID{}, err)
	default:
		r.end(o, sim.Refused, nil, ring.NodeID{}, err)
	}
	return o
}

// padded is a value of a name that is at least so long.
func padded(name string, size int) []byte {
	if len(name) >= size {
		return []byte(name)
	}
	return []byte(name + strings.Repeat(padding, size-len(name)))
}

// homesOf are the nodes that are homes of a key.
func (r *runner) homesOf(key string) []int {
	var out []int
	record := r.newestRing()
	for _, id := range record.Homes(record.PartitionOf([]byte(key))) {
		if i, ok := r.names.of(id); ok {
			out = append(out, i)
		}
	}
	return out
}

// single plays one operation of the script and holds it against what it wants.
func (r *runner) single(line int, o Op) {
	a := r.through[slices.Index(r.Nodes, o.Node)]
	real := o
	real.Key = r.keyNamed(o.Key)
	done := make(chan struct{})
	var ops []*operation
	go func() {
		defer close(done)
		ops = r.operate(a, real)
	}()
	r.await(done)
	ok, found := len(ops) > 0, "nothing was done"
	judged := o.Want.words() != ""
	for _, got := range ops {
		met := o.Want.met(got.Op)
		if ok || !met && len(ops) == 1 {
			found = got.found()
		}
		ok = ok && met
	}
	if o.Verb == "read-local" && ok && ops[0].Outcome == sim.Done && !r.only(ops[0], a.place) {
		ok, judged = false, true
		found = fmt.Sprintf("%s did not answer alone: the homes of %s are %s", o.Node, o.Key, strings.Join(r.list(r.homesOf(real.Key)), " "))
	}
	if o.Verb == "read-all" && ok {
		done := 0
		for _, got := range ops {
			if got.Outcome == sim.Done {
				done++
			}
		}
		found = fmt.Sprintf("%d of %d keys done", done, len(ops))
	}
	asked := o
	asked.Want = Want{}
	r.event("step", nil, asked.words()+" -> "+found)
	if judged {
		r.check(o.words(), line, ok, "%s", found)
	}
}

// only says that a read has the answer of one home alone.
func (r *runner) only(o *operation, home int) bool {
	if len(o.answered) != 1 {
		return false
	}
	by, ok := r.names.of(o.answered[0])
	return ok && by == home
}

// found is what an operation came to, in a few words.
func (o *operation) found() string {
	if o.Read && o.Outcome == sim.Done {
		return values(o.Saw) + ", " + o.Note
	}
	return strings.TrimRight(o.Outcome.String()+", "+o.Note, ", ")
}

// operate does the operation; read-all does one for each key.
func (r *runner) operate(a *actor, o Op) []*operation {
	after := r.reads[o.After]
	switch o.Verb {
	case "put", "delete":
		value := o.Value
		if o.Verb == "delete" {
			value = fmt.Sprintf("delete-%d", len(r.history.Ops()))
		}
		if o.After != "" && after.context == nil {
			return nil // the read has failed, and said so
		}
		return []*operation{r.write(a, write{key: o.Key, value: value, remove: o.Verb == "delete", after: after,
			level: o.Level, limit: o.Timeout, ttl: o.TTL, sloppy: o.Sloppy})}
	case "read-all":
		var out []*operation
		for _, key := range r.history.Keys() {
			out = append(out, r.get(a, key, o.Level, o.Timeout).operation)
		}
		return out
	}
	got := r.get(a, o.Key, o.Level, o.Timeout)
	if o.As != "" {
		r.reads[o.As] = got
	}
	return []*operation{got.operation}
}

// met says whether an operation has become what was wanted.
func (w Want) met(o *sim.Op) bool {
	switch w.Outcome {
	case "":
		if !w.Absent && len(w.Values) == 0 {
			return true
		}
	case "ok":
		return o.Outcome == sim.Done
	case "refused":
		return o.Outcome == sim.Refused
	case "unknown":
		return o.Outcome == sim.Unknown
	case "failed":
		return o.Outcome == sim.Refused || o.Outcome == sim.Unknown
	}
	return o.Outcome == sim.Done && slices.Equal(o.Saw, w.Values)
}

// values lists what was shown.
func values(saw []string) string {
	if len(saw) == 0 {
		return "absent"
	}
	return strings.Join(saw, " ")
}
