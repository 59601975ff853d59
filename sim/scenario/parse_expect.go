package scenario

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kithdb/kith/sim"
)

// promised are the promises in the words of an expectation.
var promised = map[string]sim.Promise{
	"no write is lost":        sim.Kept,
	"no refused write exists": sim.RefusedNowhere,
	"no read goes backwards":  sim.Forwards,
	"siblings are right":      sim.Siblings,
}

// kinds are the words for operations.
var kinds = []string{"reads", "writes", "operations"}

// parseExpect reads an expectation; its first word was read.
func parseExpect(l *line) (Expect, error) {
	e := Expect{Line: l.number}
	var err error
	all := strings.Join(l.words, " ")
	switch {
	case promised[all] != "":
		l.rest()
		e.What = Promised{all}
	case l.take("equal", "within"):
		var w Equal
		w.Within, err = positive(l.next())
		e.What = w
	case l.take("settled", "within"):
		var w Settled
		w.Within, err = positive(l.next())
		e.What = w
	case l.take("members"):
		var w Members
		w.Nodes, err = names("node", l.rest())
		e.What = w
	case l.take("at", "least"):
		e.What, err = parseCount(l)
	case l.take("siblings", "of"):
		e.What, err = parseShown(l)
	case len(l.words) > 0 && slices.Contains(kinds, l.words[0]):
		e.What, err = parseOperations(l)
	case slices.Contains(l.words, "named"):
		e.What, err = parseNamed(l)
	default:
		err = fmt.Errorf("%q: want reads, writes or operations with succeed, are or take; at least N writes succeed; no write is lost; "+
			"no refused write exists; no read goes backwards; siblings are right; siblings of KEY: VALUES; equal within TIME; settled within TIME; members NODES; or NODE is named for WORD", all)
	}
	return e, err
}

func parseCount(l *line) (Expectation, error) {
	var c Count
	var err error
	if c.Least, err = count(l.next(), 1, OpsMax); err != nil {
		return c, err
	}
	if c.Kind, err = oneOf(kinds...)(l.next()); err != nil {
		return c, err
	}
	if !l.take("succeed") {
		return c, fmt.Errorf("want succeed at the end")
	}
	return c, nil
}

func parseShown(l *line) (Expectation, error) {
	var s Shown
	key, ok := strings.CutSuffix(l.next(), ":")
	if !ok {
		return s, fmt.Errorf("want siblings of KEY: and its values, or none")
	}
	var err error
	if s.Key, err = name("key", key); err != nil || l.take("none") {
		return s, err
	}
	s.Values, err = names("value", l.rest())
	slices.Sort(s.Values)
	return s, err
}

func parseNamed(l *line) (Expectation, error) {
	var n Named
	var err error
	l.take("member")
	if n.Node, err = name("node", l.next()); err != nil {
		return n, err
	}
	switch {
	case l.take("is", "named", "for"):
	case l.take("is", "not", "named", "for"):
		n.Not = true
	default:
		return n, fmt.Errorf("want NODE is named for WORD, or NODE is not named for WORD")
	}
	l.take("its")
	n.For, err = name("word", l.next())
	return n, err
}

func parseOperations(l *line) (Expectation, error) {
	o := Operations{Kind: l.next()}
	err := o.parseChoice(l)
	if err != nil {
		return o, err
	}
	switch o.Verb = l.next(); o.Verb {
	case "succeed":
		o.How = "always"
		err = o.parseShare(l)
	case "are":
		err = o.parseAre(l)
	case "take":
		if !l.take("at", "most") {
			return o, fmt.Errorf("want take at most TIME")
		}
		o.Limit, err = positive(l.next())
	default:
		return o, fmt.Errorf("%q: want succeed, are, or take at most TIME", o.Verb)
	}
	if err == nil && l.take("from") {
		o.From, err = duration(l.next())
	}
	if err == nil && l.take("to") {
		o.To, err = positive(l.next())
	}
	if err == nil && o.To > 0 && o.To <= o.From {
		err = fmt.Errorf("to %s is not after from %s", short(o.To), short(o.From))
	}
	return o, err
}

// parseChoice reads which operations are meant.
func (o *Operations) parseChoice(l *line) (err error) {
	if l.take("at") {
		level, err := ParseLevel(l.next())
		if err != nil {
			return err
		}
		o.Level = &level
	}
	if l.take("by") {
		if o.Load, err = name("load", l.next()); err != nil {
			return err
		}
	}
	if l.take("on") {
		l.take("side")
		if o.On, err = l.nodes(oneWordOf("where", "succeed", "are", "take")); err != nil {
			return err
		}
	}
	if l.take("where") {
		o.Held, err = oneOf("held", "lost")(l.next())
	}
	return err
}

func (o *Operations) parseAre(l *line) (err error) {
	o.How = "always"
	for _, how := range []string{"always", "never", "sometimes"} {
		if l.take(how) {
			o.How = how
		}
	}
	if o.Outcome, err = oneOf("refused", "unknown", "failed", "stale")(l.next()); err != nil {
		return err
	}
	if o.How == "always" {
		err = o.parseShare(l)
	}
	return err
}

// parseShare reads how many at least, if told.
func (o *Operations) parseShare(l *line) (err error) {
	if len(l.words) > 0 && strings.HasSuffix(l.words[0], "%") {
		o.How = "share"
		o.Percent, err = percent(l.next())
	}
	return err
}
