package processes

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

const (
	// deedMax is how long one write of a story may take that nothing refuses.
	deedMax = 15 * time.Second
	// mayfly lives shorter than any cut that is waited for.
	mayfly = 2 * time.Second
	// lasting is for longer than copies may take to become equal, and some more to
	// look at them.
	lasting = RepairMax + 20*time.Second
	// blink is more than what clocks of one machine are kept to.
	blink = 50 * time.Millisecond
)

// deed is one write on one side of a cut, at w=one, by a home.
type deed struct {
	// blind replaces what the home holds. Else the write carries what its writer
	// knows: the value from before the cut, or the writer's own latest.
	blind  bool
	delete bool
	ttl    time.Duration // 0 is for ever
}

// kind is what befalls a key on both sides of a cut.
type kind struct {
	name        string
	fresh       bool // there was no value before the cut
	here, there []deed
	// want says whose latest values all homes show once their copies are equal,
	// later the same when all has expired that does; empty is as before.
	want, later string
	// apart says that this holds only where no side hears of the other one.
	apart bool
}

// Whose values are shown.
const (
	nobodys = "nothing"
	ours    = "here"
	theirs  = "there"
	both    = ours + " and " + theirs
)

// kinds are all that is done to keys. Each is exact: it can end in one way only.
var kinds = []kind{
	{name: "put on both sides", here: []deed{{}}, there: []deed{{}}, want: both},
	{name: "put blindly on both sides", here: []deed{{blind: true}}, there: []deed{{blind: true}}, want: both, apart: true},
	{name: "put blindly here, with a context there", here: []deed{{blind: true}}, there: []deed{{}}, want: both, apart: true},
	{name: "put here", here: []deed{{}}, want: ours},
	{name: "put blindly there", there: []deed{{blind: true}}, want: theirs},
	{name: "put three times here, twice there", here: []deed{{}, {}, {}}, there: []deed{{}, {}}, want: both, apart: true},
	{name: "created on both sides", fresh: true, here: []deed{{blind: true}}, there: []deed{{blind: true}}, want: both, apart: true},
	{name: "deleted here", here: []deed{{delete: true}}, want: nobodys},
	{name: "deleted there", there: []deed{{delete: true}}, want: nobodys},
	{name: "deleted on both sides", here: []deed{{delete: true}}, there: []deed{{delete: true}}, want: nobodys},
	{name: "deleted here, put there", here: []deed{{delete: true}}, there: []deed{{}}, want: theirs},
	{name: "put here, deleted there", here: []deed{{}}, there: []deed{{delete: true}}, want: ours},
	{name: "created and deleted here", fresh: true, here: []deed{{blind: true}, {delete: true}}, want: nobodys},
	{name: "deleted and put again here", here: []deed{{delete: true}, {}}, want: ours},
	{name: "put for a moment here", here: []deed{{ttl: mayfly}}, want: nobodys},
	{name: "put for a moment here, put there", here: []deed{{ttl: mayfly}}, there: []deed{{}}, want: theirs},
	{name: "created for a moment on both sides", fresh: true, here: []deed{{blind: true, ttl: mayfly}}, there: []deed{{blind: true, ttl: mayfly}}, want: nobodys},
	{name: "put for a while here", here: []deed{{ttl: lasting}}, want: ours, later: nobodys},
	{name: "put there, put for a while here", here: []deed{{ttl: lasting}}, there: []deed{{}}, want: both, later: theirs},
	{name: "put for a while here, deleted there", here: []deed{{ttl: lasting}}, there: []deed{{delete: true}}, want: ours, later: nobodys},
}

// lasts says that a value of the kind expires only when copies are equal.
func (k *kind) lasts() bool { return k.later != "" }

// finally is whose values are shown for good.
func (k *kind) finally() string { return cmp.Or(k.later, k.want) }

// fate is what becomes of one key. Side 0 is here, side 1 there.
type fate struct {
	kind    *kind
	key     string
	writers [2]int
	before  *sim.Read  // what all know
	last    [2]*sim.Op // that each side has put
}

// fates gives each kind n keys whose homes are as wanted, and puts and reads what
// is there before the cut. writers chooses a home for each side.
func (p *play) fates(n int, when string, wanted []kind, homes func(homes []int) bool, writers func(homes []int) [2]int) ([]*fate, error) {
	var out []*fate
	for i := range wanted {
		keys := p.keys(n, when+", "+wanted[i].name, homes)
		if len(keys) < n {
			return nil, fmt.Errorf("%s: %d of %d keys have such homes", when, len(keys), n)
		}
		for _, key := range keys {
			f := &fate{kind: &wanted[i], key: key, writers: writers(p.homes(key))}
			if err := p.foundation(f); err != nil {
				return nil, err
			}
			out = append(out, f)
		}
	}
	return out, nil
}

// foundation puts a value at all homes and reads it.
func (p *play) foundation(f *fate) error {
	if f.kind.fresh {
		return nil
	}
	via := f.writers[0]
	m := meta{via: p.names[via], level: levelName(client.All)}
	if op := p.note(p.direct[via].Put(f.key, nil, client.All, deedMax), m); op.Outcome != sim.Done {
		return fmt.Errorf("before the cut: %v", op)
	}
	f.before = p.direct[via].Get(f.key, client.All, deedMax)
	if p.note(f.before.Op, m); f.before.Outcome != sim.Done {
		return fmt.Errorf("before the cut: %v", f.before.Op)
	}
	return nil
}

// befall does to a key what its kind says, on one side and then on the other.
func (p *play) befall(f *fate) error {
	for side, deeds := range [2][]deed{f.kind.here, f.kind.there} {
		knows, via := f.before, f.writers[side]
		for _, d := range deeds {
			w := sim.Write{Key: f.key, Delete: d.delete, After: knows, Level: client.One, Limit: deedMax, TTL: d.ttl}
			if d.blind {
				w.After = nil
			}
			op := p.note(p.direct[via].Write(w), meta{via: p.names[via], level: levelName(client.One)})
			if op.Outcome != sim.Done {
				return fmt.Errorf("%s: %v", f.kind.name, op)
			}
			if d.ttl > 0 {
				p.mortal = append(p.mortal, op)
			}
			knows, f.last[side] = op.Next(), op
		}
	}
	return nil
}

// expired waits until everything that was put to expire within a time from then
// has expired.
func (p *play) expired(ttl time.Duration) {
	for _, op := range p.mortal {
		if op.TTL <= ttl {
			p.rest(time.Until(op.Ended.Add(op.TTL + blink)))
		}
	}
}

// shows tells whose values are shown.
func (f *fate) shows(values []string) string {
	var whose []string
	for _, v := range values {
		who := v // that nobody should see
		for side, op := range f.last {
			if op != nil && op.Value == v {
				who = [2]string{ours, theirs}[side]
			}
		}
		whose = append(whose, who)
	}
	if len(whose) == 0 {
		return nobodys
	}
	slices.Sort(whose)
	return strings.Join(whose, " and ")
}
