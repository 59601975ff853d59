package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// errorsMax is how many mistakes of one text are told.
const errorsMax = 20

// line is the words of one line, and how far they were read.
type line struct {
	number int
	words  []string
}

// next takes a word; empty at the end.
func (l *line) next() string {
	if len(l.words) == 0 {
		return ""
	}
	w := l.words[0]
	l.words = l.words[1:]
	return w
}

// take says that the next words are these, and takes them.
func (l *line) take(words ...string) bool {
	if len(l.words) < len(words) || !slices.Equal(l.words[:len(words)], words) {
		return false
	}
	l.words = l.words[len(words):]
	return true
}

// end wants no more words.
func (l *line) end() error {
	if len(l.words) > 0 {
		return fmt.Errorf("%q is too much", strings.Join(l.words, " "))
	}
	return nil
}

// Parse reads a text. name is what runs and errors call it. The error tells all
// mistakes, each with its line.
func Parse(name, text string) (*Scenario, error) {
	if len(text) > TextMax {
		return nil, fmt.Errorf("%s: %d bytes: a scenario has at most %d", name, len(text), TextMax)
	}
	s := &Scenario{Name: name, Text: text}
	var errs []error
	leading, seen := true, map[string]int{}
	for i, raw := range strings.Split(text, "\n") {
		raw = strings.TrimSpace(raw)
		if comment, ok := strings.CutPrefix(raw, "#"); ok && leading {
			s.Story = append(s.Story, strings.TrimSpace(comment))
			continue
		}
		leading = leading && raw == "" && len(s.Story) == 0
		l := &line{number: i + 1, words: split(raw)}
		if len(l.words) == 0 {
			continue
		}
		err := s.parseLine(l, seen)
		if err == nil {
			err = l.end()
		}
		if err != nil && len(errs) < errorsMax {
			errs = append(errs, fmt.Errorf("%s: line %d: %w", name, i+1, err))
		}
	}
	if len(errs) == 0 {
		s.Nodes = append(s.Nodes, s.Spare...)
		for _, err := range s.check() {
			if len(errs) < errorsMax {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

// split gives the words of a line, up to a comment.
func split(raw string) []string {
	var out []string
	for w := range strings.FieldsSeq(raw) {
		if strings.HasPrefix(w, "#") {
			break
		}
		out = append(out, w)
	}
	return out
}

// parseLine reads one line; seen are the lines that there can be only one of.
func (s *Scenario) parseLine(l *line, seen map[string]int) (err error) {
	first := l.next()
	// Alone, the number of homes is the cluster's; with an operator behind it, or a time
	// before it, somebody changes it.
	if first == "replicas" && len(l.words) > 1 {
		return s.parseStepLine(first, l)
	}
	switch first {
	case "cluster", "spare", "replicas", "partitions", "network", "repair":
		if before := seen[first]; before > 0 {
			return fmt.Errorf("%s stands in line %d already", first, before)
		}
		seen[first] = l.number
	}
	switch first {
	case "cluster":
		s.Nodes, err = names("node", l.rest())
	case "spare":
		s.Spare, err = names("node", l.rest())
	case "zone":
		var z Zone
		if z.Name, err = name("zone", l.next()); err == nil {
			z.Nodes, err = names("node", l.rest())
		}
		s.Zones = append(s.Zones, z)
	case "replicas":
		s.Replicas, err = count(l.next(), 1, ring.ReplicasMax)
	case "partitions":
		s.Partitions, err = count(l.next(), 1, 1024)
	case "network":
		s.Link, err = parseShape(l)
	case "repair":
		s.Pace, err = parsePace(l)
	case "key":
		var k Placed
		k, err = parsePlaced(l)
		s.Keys = append(s.Keys, k)
	case "load":
		var load Load
		load, err = parseLoad(l)
		s.Loads = append(s.Loads, load)
	case "expect":
		var e Expect
		e, err = parseExpect(l)
		s.Expects = append(s.Expects, e)
	default:
		return s.parseStepLine(first, l)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", first, err)
	}
	return nil
}

// parseStepLine reads a line of the script; its first word was read.
func (s *Scenario) parseStepLine(first string, l *line) error {
	st, err := parseStep(first, l)
	s.Steps = append(s.Steps, st)
	switch {
	case errors.Is(err, errNoStep) && first != "at":
		return fmt.Errorf("no line begins with %q: want cluster, spare, zone, replicas, partitions, network, repair, key, load, expect, or a step: %s", first, stepWords)
	case err != nil:
		return fmt.Errorf("%s: %w", first, err)
	}
	return nil
}

// rest takes all words that are left.
func (l *line) rest() []string {
	words := l.words
	l.words = nil
	return words
}

// options reads words of the form name=value, and words alone, in any order, each
// at most once, until one is neither.
func (l *line) options(known map[string]func(string) error) error {
	seen := map[string]bool{}
	for len(l.words) > 0 {
		key, value, pair := strings.Cut(l.words[0], "=")
		if pair {
			key += "="
		}
		set := known[key]
		if set == nil {
			if pair {
				return fmt.Errorf("option %s is not known here: want %s", key, list(known))
			}
			return nil
		}
		if seen[key] {
			return fmt.Errorf("option %s is there twice", key)
		}
		seen[key] = true
		l.next()
		if err := set(value); err != nil {
			return fmt.Errorf("%s %w", key, err)
		}
	}
	return nil
}

func list(known map[string]func(string) error) string {
	var out []string
	for k := range known {
		out = append(out, k)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// into makes an option that stores what a reader gives.
func into[T any](to *T, read func(string) (T, error)) func(string) error {
	return func(word string) (err error) {
		*to, err = read(word)
		return err
	}
}

// flag makes an option that is a word alone.
func flag(to *bool, value bool) func(string) error {
	return func(string) error {
		*to = value
		return nil
	}
}

func counted(least, most int) func(string) (int, error) {
	return func(word string) (int, error) { return count(word, least, most) }
}

func sized(most int) func(string) (int, error) {
	return func(word string) (int, error) { return bytes(word, most) }
}

func named(what string) func(string) (string, error) {
	return func(word string) (string, error) { return name(what, word) }
}

func parseLoad(l *line) (Load, error) {
	load := Load{
		Line: l.number, Clients: 1, Rate: 10, Keys: 20, Prefix: "k", Reads: 50,
		R: Quorum, W: Quorum, Timeout: 2 * time.Second,
	}
	var err error
	if load.Name, err = name("load", l.next()); err != nil {
		return load, err
	}
	if l.take("at") {
		option := oneWordOf("direct", "blind", "context", "sloppy")
		if load.At, err = l.nodes(func(w string) bool { return isPair(w) || option(w) }); err != nil {
			return load, err
		}
	}
	context := false
	err = l.options(map[string]func(string) error{
		"direct": flag(&load.Direct, true), "blind": flag(&load.Blind, true), "context": flag(&context, true),
		"clients=": into(&load.Clients, counted(1, ClientMax)), "rate=": into(&load.Rate, rate),
		"keys=": into(&load.Keys, counted(1, KeysMax)), "prefix=": into(&load.Prefix, named("prefix")),
		"reads=": into(&load.Reads, percent), "size=": into(&load.Size, sized(SizeMax)),
		"r=": into(&load.R, ParseLevel), "w=": into(&load.W, ParseLevel), "timeout=": into(&load.Timeout, positive),
		"from=": into(&load.From, duration), "to=": into(&load.To, positive),
		"ttl=": into(&load.TTL, positive), "sloppy": flag(&load.Sloppy, true),
	})
	switch {
	case err != nil:
		return load, err
	case context && load.Blind:
		return load, fmt.Errorf("blind and context exclude each other")
	case load.Direct && len(load.At) == 0:
		return load, fmt.Errorf("direct: want at NODE, the node to go through")
	case load.To > 0 && load.To <= load.From:
		return load, fmt.Errorf("to=%s is not after from=%s", short(load.To), short(load.From))
	}
	return load, nil
}

// Bounds of the pace, which are those of nodes.
const (
	auditMin = time.Second
	scrubMin = time.Minute
)

// parsePace reads how fast nodes repair.
func parsePace(l *line) (sim.Pace, error) {
	var p sim.Pace
	if len(l.words) == 0 {
		return p, fmt.Errorf("want at least one of audit=, scrub=, forget=")
	}
	err := l.options(map[string]func(string) error{
		"audit=": into(&p.Audit, positive), "scrub=": into(&p.Scrub, positive), "forget=": into(&p.Forget, positive),
	})
	switch {
	case err != nil:
	case p.Audit > 0 && p.Audit < auditMin:
		err = fmt.Errorf("audit=%s: want at least %s", short(p.Audit), short(auditMin))
	case p.Scrub > 0 && p.Scrub < scrubMin:
		err = fmt.Errorf("scrub=%s: want at least %s", short(p.Scrub), short(scrubMin))
	}
	return p, err
}

func parsePlaced(l *line) (Placed, error) {
	k := Placed{Line: l.number}
	var err error
	if k.Key, err = name("key", l.next()); err != nil {
		return k, err
	}
	if !l.take("homes") {
		return k, fmt.Errorf("want key KEY homes, and the nodes")
	}
	k.Homes, err = names("node", l.rest())
	return k, err
}

// parseShape reads what a link is like.
func parseShape(l *line) (*network.Link, error) {
	if len(l.words) == 0 {
		return nil, fmt.Errorf("want at least one of latency=, jitter=, loss=, reset=, duplicate=, late=, lateby=, bandwidth=")
	}
	s := network.Link{Latency: time.Millisecond, Jitter: time.Millisecond}
	err := l.options(map[string]func(string) error{
		"latency=": into(&s.Latency, duration), "jitter=": into(&s.Jitter, duration),
		"loss=": into(&s.Loss, share), "reset=": into(&s.Reset, share), "duplicate=": into(&s.Duplicate, share),
		"late=": into(&s.Late, share), "lateby=": into(&s.LateBy, duration),
		"bandwidth=": into(&s.Bandwidth, sized(1<<30)),
	})
	if err == nil && s.Late > 0 != (s.LateBy > 0) {
		err = fmt.Errorf("late= and lateby= go together")
	}
	return &s, err
}
