package sim

// knowledge is what strict operations have told of the writes to a key until some
// time. Thousands of reads are held against it.
type knowledge struct {
	of    *oracle
	since []*Op // who told first of the write, by its index
	// in are those writes that a later strict read must cover, as far as that
	// needs no look at the time, and out what they have certainly replaced.
	in, out bits
	seen    bits // scratch
	left    bool // what was given up before it was told again is not known any more
}

func newKnowledge(k *oracle) *knowledge {
	return &knowledge{of: k, since: make([]*Op, len(k.list)), in: k.none(), out: k.none(), seen: k.none()}
}

// learn enters the writes that a strict operation has done or shown.
func (n *knowledge) learn(o *Op) {
	values := o.Saw
	if !o.Read {
		values = []string{o.Value}
	}
	for _, v := range values {
		i, ok := n.of.index[v]
		if !ok || n.since[i] != nil || n.left && n.of.gone.has(i) && !o.Began.After(n.of.given) {
			continue
		}
		n.since[i] = o
		if !n.of.list[i].Delete && !n.of.hidden.has(i) {
			n.in.add(i)
		}
		n.out.addAll(n.of.must[i])
	}
}

// allIn says that a read certainly shows all that is known. If it does not say so,
// showsAll has to look.
func (n *knowledge) allIn(read *Op) bool {
	clear(n.seen)
	for _, s := range read.Saw {
		i, ok := n.of.index[s]
		if !ok {
			continue
		}
		if n.out.has(i) {
			return false
		}
		n.seen.add(i)
		n.seen.addAll(n.of.may[i])
	}
	for w, word := range n.in {
		if word&^n.seen[w] != 0 {
			return false
		}
	}
	return true
}
