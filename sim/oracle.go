package sim

import (
	"slices"
	"sort"
	"time"
)

// oracle knows of one key which write has certainly seen which, and which one
// may have.
type oracle struct {
	ops   []*Op
	list  []*Op          // the puts, deletes among them, by their beginning
	index map[string]int // of a value's put in list
	puts  map[string]*Op
	// must are the writes that a write has certainly seen, by its index; may
	// adds those that a blind put may have met at its coordinator.
	must, may []bits
	hidden    bits                 // what a delete, or a put that expires, may have seen
	gone      bits                 // what was given up with those who had it
	given     time.Time            // when; zero for never
	late      time.Duration        // see History
	final     span                 // when the key was read in the end
	forwards  bool                 // no strict read goes backwards: that was checked
	minted    map[string]time.Time // see History
}

// bits is a set of indexes.
type bits []uint64

func (b bits) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

// add says whether i is new.
func (b bits) add(i int) bool {
	was := b[i/64]
	b[i/64] |= 1 << (i % 64)
	return b[i/64] != was
}

// addAll adds another set of the same size.
func (b bits) addAll(other bits) {
	for n, word := range other {
		b[n] |= word
	}
}

func newOracle(ops []*Op, h *History) *oracle {
	k := &oracle{ops: ops, late: h.late, minted: h.minted, puts: map[string]*Op{}, index: map[string]int{}}
	for _, o := range ops {
		k.final = h.final[o.Key]
		if !o.Read {
			k.puts[o.Value] = o
			k.list = append(k.list, o)
		}
	}
	slices.SortStableFunc(k.list, func(a, b *Op) int { return a.Began.Compare(b.Began) })
	for i, o := range k.list {
		k.index[o.Value] = i
	}
	k.hidden = k.none()
	k.must, k.may = k.pasts(false), k.pasts(true)
	for i, o := range k.list {
		if (o.Delete || o.TTL > 0) && o.Outcome != Refused {
			k.hidden.addAll(k.may[i])
		}
	}
	k.gone = k.none()
	if h.remains != nil {
		k.gone, k.given = h.remains.gone(k), h.remains.at
	}
	return k
}

func (k *oracle) none() bits { return make(bits, (len(k.list)+63)/64) }

// pasts collects what each write has seen, and what that had seen, and so on.
func (k *oracle) pasts(may bool) []bits {
	var out []bits
	all := k.none() // those that are in out, and what they had seen
	for i := range k.list {
		p := past{oracle: k, of: i, may: may, earlier: out, all: all, seen: k.none(), open: []int{i}}
		p.collect()
		out = append(out, p.seen)
		all.add(i)
		all.addAll(p.seen)
	}
	return out
}

// past is what one write has seen, while it is collected.
type past struct {
	*oracle
	of      int // the write
	may     bool
	earlier []bits // the pasts of those before it in list
	all     bits   // and those with all of their pasts
	seen    bits
	open    []int // those in seen whose own past is still to be added
	met     int   // all that began before list[met] were added
}

func (p *past) collect() {
	for len(p.open) > 0 {
		put := p.list[p.open[len(p.open)-1]]
		p.open = p.open[:len(p.open)-1]
		switch {
		case put.After != nil:
			p.addNamed(put.After.Saw)
			if p.may {
				p.addNamed(put.After.may)
			}
		case p.may:
			upto := p.oracle.met(put)
			if upto >= p.of && p.met < p.of {
				p.seen.addAll(p.all)
				p.met = p.of
			}
			for ; p.met < upto; p.met++ {
				p.add(p.met)
			}
		}
	}
}

func (p *past) addNamed(values []string) {
	for _, v := range values {
		if j, ok := p.index[v]; ok {
			p.add(j)
		}
	}
}

// add adds a write, with its past if that is known already.
func (p *past) add(j int) {
	switch {
	case !p.seen.add(j):
	case j < p.of:
		p.seen.addAll(p.earlier[j])
	default:
		p.open = append(p.open, j)
	}
}

// met says how many of the puts had begun when a blind one may have been minted:
// it may have met them all.
func (k *oracle) met(put *Op) int {
	var end time.Time
	switch {
	case put.Outcome == Done || put.Outcome == Refused:
		end = put.Ended
	case k.late == 0 || put.Deadline.IsZero():
		return len(k.list)
	default:
		end = put.Deadline.Add(k.late)
	}
	return sort.Search(len(k.list), func(i int) bool { return !k.list[i].Began.Before(end) })
}

// replaced says that the write of w had certainly seen that of v.
func (k *oracle) replaced(v, w string) bool {
	i, ok := k.index[w]
	j, put := k.index[v]
	return ok && put && k.must[i].has(j)
}

// covered says that v is shown at a time, or something that may have seen it, or
// that it need not be: a delete is never shown, nor is what has expired, and both
// may have hidden what they had seen.
func (k *oracle) covered(v string, values []string, at time.Time) bool {
	j := k.index[v]
	return k.puts[v].Delete || k.hidden.has(j) || k.mayBeGone(k.puts[v], at) || slices.ContainsFunc(values, func(s string) bool {
		i, ok := k.index[s]
		return s == v || ok && k.may[i].has(j)
	})
}
