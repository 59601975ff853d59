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
//   - what has expired is not shown, and no put is minted long after its client
//     gave up, if clocks were right;
//   - strict reads never go backwards: they show all that strict puts had done,
//     and strict reads had shown, before they began, or what came after that.
func Check(h *History, final map[string][]string) error { return newChecker(h).check(final) }

// checker checks a history that nobody adds to any more, perhaps more than once.
type checker struct {
	history *History
	keys    []string
	oracles map[string]*oracle // by key
}

func newChecker(h *History) *checker {
	c := &checker{history: h, keys: h.Keys(), oracles: map[string]*oracle{}}
	byKey := h.byKey()
	for _, key := range c.keys {
		c.oracles[key] = newOracle(byKey[key], h)
	}
	return c
}

// check is Check.
func (c *checker) check(final map[string][]string) error {
	for _, key := range c.keys {
		shown, ok := final[key]
		if !ok {
			return fmt.Errorf("key %s was not read in the end", key)
		}
		k := c.oracles[key]
		k.final = c.history.final[key]
		for _, err := range k.check(shown) {
			return fmt.Errorf("key %s: %w\nin the end it shows %s\n%s", key, err, list(shown), c.history.Story(key))
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

// check holds everything against what is shown in the end, and gives what each
// of its parts has found first.
func (k *oracle) check(final []string) []error {
	var errs []error
	if err := k.shown(final, k.final.from); err != nil {
		errs = append(errs, fmt.Errorf("in the end: %w", err))
	}
	if err := k.kept(final); err != nil {
		errs = append(errs, err)
	}
	if !k.forwards { // what clients were told is the same every time
		err := k.backwards()
		if k.forwards = err == nil; err != nil {
			errs = append(errs, err)
		}
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
		if put.Read || put.Outcome != Done || k.gone.has(k.index[v]) {
			continue
		}
		if !k.covered(v, final, k.final.to) {
			return broken(Kept, "acknowledged %s is lost", v)
		}
		for _, s := range final {
			if k.replaced(s, v) {
				return broken(Siblings, "%s is there, which acknowledged %s had seen", s, v)
			}
		}
	}
	return nil
}

// shown checks one set of siblings by itself, as it was shown at a time or later.
func (k *oracle) shown(values []string, at time.Time) error {
	for i, v := range values {
		put := k.puts[v]
		switch {
		case put == nil:
			return broken(Siblings, "%s is shown, which nobody put", v)
		case put.Delete:
			return broken(Siblings, "%s is shown, which is a delete", v)
		case put.Outcome == Refused:
			return broken(RefusedNowhere, "%s is shown, which was refused", v)
		case k.mustBeGone(put, at):
			return broken(Expired, "%s is shown at %s, which had expired", v, at.Format(time.TimeOnly+".000"))
		case i > 0 && slices.Contains(values[:i], v):
			return broken(Siblings, "%s is shown twice", v)
		}
		for _, w := range values {
			if k.replaced(v, w) {
				return broken(Siblings, "%s is shown beside %s, which had seen it", v, w)
			}
		}
	}
	return nil
}

// backwards looks for a strict read that shows less than was known before it
// began.
func (k *oracle) backwards() error {
	var told, reads []*Op // strict operations that tell of writes, and the reads to check
	for _, o := range k.ops {
		if o.Outcome != Done {
			continue
		}
		if o.Read {
			if err := k.shown(o.Saw, o.Began); err != nil {
				return fmt.Errorf("%v: %w", o, err)
			}
		}
		if o.Strict {
			told = append(told, o)
			if o.Read {
				reads = append(reads, o)
			}
		}
	}
	slices.SortStableFunc(told, func(a, b *Op) int { return a.Ended.Compare(b.Ended) })
	slices.SortStableFunc(reads, func(a, b *Op) int { return a.Began.Compare(b.Began) })
	if k.given.IsZero() {
		return k.inOrder(told, reads, newKnowledge(k))
	}
	// What was told before, of what was given up then, binds no read that ended later.
	var early, late []*Op
	for _, read := range reads {
		if read.Ended.Before(k.given) {
			early = append(early, read)
		} else {
			late = append(late, read)
		}
	}
	if err := k.inOrder(told, early, newKnowledge(k)); err != nil {
		return err
	}
	left := newKnowledge(k)
	left.left = true
	return k.inOrder(told, late, left)
}

// inOrder holds reads, by their beginning, against what was told before each, by its end.
func (k *oracle) inOrder(told, reads []*Op, known *knowledge) error {
	for _, read := range reads {
		for len(told) > 0 && told[0].Ended.Before(read.Began) {
			known.learn(told[0])
			told = told[1:]
		}
		if known.allIn(read) {
			continue
		}
		if err := k.showsAll(read, known.since); err != nil {
			return err
		}
	}
	return nil
}

// showsAll holds a read against what was known before it.
func (k *oracle) showsAll(read *Op, known []*Op) error {
	for i, since := range known {
		if since == nil {
			continue
		}
		v := k.list[i].Value
		if !k.covered(v, read.Saw, read.Ended) {
			return broken(Forwards, "%v: went backwards: %s was there since %v", read, v, since)
		}
		for _, s := range read.Saw {
			if k.replaced(s, v) {
				return broken(Forwards, "%v: went backwards: %s is shown, which %s had replaced since %v", read, s, v, since)
			}
		}
	}
	return nil
}
