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
	late      time.Duration        // see History
	final     span                 // when the key was read in the end
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
	for i, o := range k.list {
		k.must = append(k.must, k.past(i, false))
		k.may = append(k.may, k.past(i, true))
		if (o.Delete || o.TTL > 0) && o.Outcome != Refused {
			for n, word := range k.may[i] {
				k.hidden[n] |= word
			}
		}
	}
	return k
}

func (k *oracle) none() bits { return make(bits, (len(k.list)+63)/64) }

// past collects what a write has seen, and what that had seen, and so on.
func (k *oracle) past(i int, may bool) bits {
	seen := k.none()
	met := 0 // all that began before list[met] are in, or it is their own turn
	open := []int{i}
	add := func(j int) {
		if seen.add(j) {
			open = append(open, j)
		}
	}
	for len(open) > 0 {
		put := k.list[open[len(open)-1]]
		open = open[:len(open)-1]
		switch {
		case put.After != nil:
			for _, w := range put.After.Saw {
				if j, ok := k.index[w]; ok {
					add(j)
				}
			}
			for _, w := range put.After.may {
				if j, ok := k.index[w]; ok && may {
					add(j)
				}
			}
		case may:
			for upto := k.met(put); met < upto; met++ {
				add(met)
			}
		}
	}
	return seen
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
