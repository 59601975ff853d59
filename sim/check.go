package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Check holds a history against what every key shows in the end, when all is
// healed and read at all homes. It holds that
//
//   - a refused put is nowhere, and nothing is shown that nobody put;
//   - an acknowledged put is there, or a put that had seen it is;
//   - a deleted value stays deleted;
//   - what a put has seen does not stand beside it, nor come back after it was
//     acknowledged: siblings are equal to the oracle's;
//   - no put is minted long after its client gave up, if clocks were right;
//   - strict reads never go backwards: they show all that strict puts had done,
//     and strict reads had shown, before they began, or what came after that.
func Check(h *History, final map[string][]string) error {
	byKey := h.byKey()
	for _, key := range h.Keys() {
		shown, ok := final[key]
		if !ok {
			return fmt.Errorf("key %s was not read in the end", key)
		}
		k := newOracle(byKey[key], h)
		for _, err := range k.check(shown) {
			return fmt.Errorf("key %s: %w\nin the end it shows %s\n%s", key, err, list(shown), h.Story(key))
		}
	}
	return nil
}

func list(values []string) string {
	if len(values) == 0 {
		return "nothing"
	}
	return strings.Join(values, ", ")
}

// oracle knows of one key which write has certainly seen which, and which one
// may have.
type oracle struct {
	ops     []*Op
	puts    map[string]*Op // deletes among them
	deletes []*Op
	// must are the writes that a write has certainly seen; may adds those
	// that a blind put may have met at its coordinator.
	must, may map[string]map[string]bool
	late      time.Duration        // see History
	minted    map[string]time.Time // see History
}

func newOracle(ops []*Op, h *History) *oracle {
	k := &oracle{ops: ops, late: h.late, minted: h.minted, puts: map[string]*Op{}, must: map[string]map[string]bool{}, may: map[string]map[string]bool{}}
	for _, o := range ops {
		if !o.Read {
			k.puts[o.Value] = o
		}
		if o.Delete && o.Outcome != Refused {
			k.deletes = append(k.deletes, o)
		}
	}
	for v := range k.puts {
		k.must[v] = map[string]bool{}
		k.past(v, false, k.must[v])
		k.may[v] = map[string]bool{}
		k.past(v, true, k.may[v])
	}
	return k
}

// past collects what the write of v has seen.
func (k *oracle) past(v string, may bool, into map[string]bool) {
	put := k.puts[v]
	switch {
	case put == nil:
	case put.After != nil:
		for _, w := range put.After.Saw {
			if !into[w] {
				into[w] = true
				k.past(w, may, into)
			}
		}
		for _, w := range put.After.may {
			if may && !into[w] {
				into[w] = true
				k.past(w, may, into)
			}
		}
	case may:
		for w, o := range k.puts {
			if w != v && !into[w] && k.met(put, o) {
				into[w] = true
				k.past(w, may, into)
			}
		}
	}
}

// met says that a blind put may have been minted after another one had begun.
func (k *oracle) met(put, o *Op) bool {
	switch {
	case put.Outcome == Done || put.Outcome == Refused:
		return o.Began.Before(put.Ended)
	case k.late == 0 || put.Deadline.IsZero():
		return true
	}
	return o.Began.Before(put.Deadline.Add(k.late))
}

// check holds everything against what is shown in the end, and gives what each
// of its parts has found first.
func (k *oracle) check(final []string) []error {
	var errs []error
	if err := k.shown(final); err != nil {
		errs = append(errs, fmt.Errorf("in the end: %w", err))
	}
	if err := k.kept(final); err != nil {
		errs = append(errs, err)
	}
	if err := k.backwards(); err != nil {
		errs = append(errs, err)
	}
	if err := k.inTime(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// inTime looks for puts that were minted when their clients had long given up.
func (k *oracle) inTime() error {
	for _, put := range k.ops {
		at, shown := k.minted[put.Value]
		if put.Read || !shown || k.late == 0 || put.Deadline.IsZero() {
			continue
		}
		if late := at.Sub(put.Deadline); late > k.late {
			return broken(InTime, "%s was minted %v after its client gave up", put.Value, late.Round(time.Millisecond))
		}
	}
	return nil
}

// kept looks for acknowledged puts that are not there, or not in force.
func (k *oracle) kept(final []string) error {
	for _, put := range k.ops {
		v := put.Value
		if put.Read || put.Outcome != Done {
			continue
		}
		if !k.covered(v, final) {
			return broken(Kept, "acknowledged %s is lost", v)
		}
		for _, s := range final {
			if k.must[v][s] {
				return broken(Siblings, "%s is there, which acknowledged %s had seen", s, v)
			}
		}
	}
	return nil
}

// shown checks one set of siblings by itself.
func (k *oracle) shown(values []string) error {
	for i, v := range values {
		put := k.puts[v]
		switch {
		case put == nil:
			return broken(Siblings, "%s is shown, which nobody put", v)
		case put.Delete:
			return broken(Siblings, "%s is shown, which is a delete", v)
		case put.Outcome == Refused:
			return broken(RefusedNowhere, "%s is shown, which was refused", v)
		case i > 0 && slices.Contains(values[:i], v):
			return broken(Siblings, "%s is shown twice", v)
		}
		for _, w := range values {
			if k.must[w][v] {
				return broken(Siblings, "%s is shown beside %s, which had seen it", v, w)
			}
		}
	}
	return nil
}

// covered says that v is shown, or something that may have seen it, or that it
// need not be: a delete is never shown, and may have hidden what it had seen.
func (k *oracle) covered(v string, values []string) bool {
	return k.puts[v].Delete ||
		slices.ContainsFunc(values, func(s string) bool { return s == v || k.may[s][v] }) ||
		slices.ContainsFunc(k.deletes, func(d *Op) bool { return k.may[d.Value][v] })
}

// backwards looks for a strict read that shows less than was known before it
// began.
func (k *oracle) backwards() error {
	for _, read := range k.ops {
		if !read.Read || read.Outcome != Done {
			continue
		}
		if err := k.shown(read.Saw); err != nil {
			return fmt.Errorf("%v: %w", read, err)
		}
		if !read.Strict {
			continue
		}
		for v, since := range k.known(read.Began) {
			if !k.covered(v, read.Saw) {
				return broken(Forwards, "%v: went backwards: %s was there since %v", read, v, since)
			}
			for _, s := range read.Saw {
				if k.must[v][s] {
					return broken(Forwards, "%v: went backwards: %s is shown, which %s had replaced since %v", read, s, v, since)
				}
			}
		}
	}
	return nil
}

// known are the writes that strict operations had done or shown before a moment,
// with those that told.
func (k *oracle) known(before time.Time) map[string]*Op {
	out := map[string]*Op{}
	for _, o := range k.ops {
		if !o.Strict || o.Outcome != Done || !o.Ended.Before(before) {
			continue
		}
		if !o.Read {
			out[o.Value] = o
		}
		for _, v := range o.Saw {
			out[v] = o
		}
	}
	return out
}
