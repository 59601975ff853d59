package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// opTimeout is what a single operation has unless told.
const opTimeout = 5 * time.Second

// errNoStep: a line of the script begins with another word.
var errNoStep = errors.New("no step begins with")

const stepWords = "cut, isolate, flap, heal, stop, kill, powercut, lose, start, replace, pause, resume, rolling, link, disk, clock, view, " +
	"join, leave, remove, weight, replicas, abort, " +
	"put, delete, get, read-local, read-all, records, wait, note, end"

// parseStep reads a line of the script.
func parseStep(first string, l *line) (Step, error) {
	st := Step{Line: l.number}
	var err error
	if first == "at" {
		st.Timed = true
		if st.At, err = duration(l.next()); err != nil {
			return st, err
		}
		first = l.next()
	}
	if first == "note" {
		st.Do = Note{strings.Join(l.rest(), " ")}
		return st, nil
	}
	if n := len(l.words); n >= 2 && l.words[n-2] == "for" {
		if st.For, err = positive(l.words[n-1]); err != nil {
			return st, err
		}
		l.words = l.words[:n-2]
	}
	if st.Do, err = parseAction(first, l); err != nil {
		return st, err
	}
	if st.For > 0 && !undoable(st.Do) {
		return st, fmt.Errorf("%s is not undone: leave out for %s", first, short(st.For))
	}
	if _, ok := st.Do.(Flap); ok && st.For == 0 {
		return st, fmt.Errorf("want for TIME at the end")
	}
	return st, nil
}

// undoable says that the action may have an end.
func undoable(a Action) bool {
	switch a := a.(type) {
	case Cut, OneWay, Isolate, Flap, Link, Clock, View:
		return true
	case Process:
		return a.Verb != "start" && a.Verb != "resume" && a.Verb != "replace"
	case Disk:
		return a.Fault != "damage" && a.Fault != "mend"
	}
	return false
}

// parseAction reads what a step does; its first word was read.
func parseAction(first string, l *line) (Action, error) {
	switch first {
	case "cut":
		return parseCut(l)
	case "flap":
		f := Flap{}
		sides, every, err := l.before("every=")
		if err == nil {
			f.Groups, err = groups(sides)
		}
		if err == nil {
			f.Every, err = positive(every)
		}
		return f, err
	case "isolate":
		nodes, err := names("node", l.rest())
		return Isolate{nodes}, err
	case "heal":
		return Heal{}, nil
	case "join", "leave", "remove", "weight", "replicas", "abort":
		return parseChange(first, l)
	case "replace":
		if slices.Contains(l.words, "with") {
			return parseChange(first, l)
		}
		return parseProcess(first, l)
	case "stop", "kill", "start", "pause", "resume", "powercut", "lose":
		return parseProcess(first, l)
	case "rolling":
		return parseRolling(l)
	case "link":
		return parseLink(l)
	case "disk":
		return parseDisk(l)
	case "clock":
		return parseClock(l)
	case "view":
		return parseView(l)
	case "put", "delete", "get", "read-local", "read-all":
		return parseOp(first, l)
	case "records":
		return parseRecords(l)
	case "wait":
		d, err := positive(l.next())
		return Wait{d}, err
	case "end":
		return End{}, nil
	case "":
		return nil, fmt.Errorf("want something to do")
	}
	return nil, fmt.Errorf("%w %q: want %s", errNoStep, first, stepWords)
}

// before takes the words up to an option that must be the last, and its value.
func (l *line) before(option string) ([]string, string, error) {
	words := l.rest()
	if n := len(words); n > 0 {
		if value, ok := strings.CutPrefix(words[n-1], option); ok {
			return words[:n-1], value, nil
		}
	}
	return nil, "", fmt.Errorf("want %s at the end", option)
}

func parseCut(l *line) (Action, error) {
	words := l.rest()
	if i := slices.Index(words, "->"); i >= 0 {
		from, to, err := oneWay(words, i)
		return OneWay{from, to}, err
	}
	g, err := groups(words)
	return Cut{g}, err
}

func oneWay(words []string, arrow int) (from, to []string, err error) {
	if from, err = names("node", words[:arrow]); err == nil {
		to, err = names("node", words[arrow+1:])
	}
	for _, n := range to {
		if err == nil && slices.Contains(from, n) {
			err = fmt.Errorf("node %s is on both sides", n)
		}
	}
	return from, to, err
}

// groups reads nodes with | between the groups.
func groups(words []string) ([][]string, error) {
	var out [][]string
	seen := map[string]bool{}
	for {
		i := slices.Index(words, "|")
		part := words
		if i >= 0 {
			part = words[:i]
		}
		g, err := names("node", part)
		if err != nil {
			return nil, err
		}
		for _, n := range g {
			switch {
			case seen[n]:
				return nil, fmt.Errorf("node %s is on both sides", n)
			case n == allNodes:
				return nil, fmt.Errorf("all has no other side")
			}
			seen[n] = true
		}
		out = append(out, g)
		if i < 0 {
			break
		}
		words = words[i+1:]
	}
	if len(out) < 2 {
		return nil, fmt.Errorf("want two sides with | between, or -> for one way")
	}
	return out, nil
}

// nodes takes the words up to the first option: a list of nodes.
func (l *line) nodes(isOption func(string) bool) ([]string, error) {
	i := slices.IndexFunc(l.words, isOption)
	if i < 0 {
		i = len(l.words)
	}
	nodes, err := names("node", l.words[:i])
	l.words = l.words[i:]
	return nodes, err
}

func oneWordOf(words ...string) func(string) bool {
	return func(w string) bool { return slices.Contains(words, w) }
}

func isPair(word string) bool { return strings.Contains(word, "=") }

func oneOf(words ...string) func(string) (string, error) {
	return func(word string) (string, error) {
		if !slices.Contains(words, word) {
			return "", fmt.Errorf("%q: want %s", word, strings.Join(words, ", "))
		}
		return word, nil
	}
}

func parseProcess(verb string, l *line) (Action, error) {
	p := Process{Verb: verb}
	var err error
	if p.Nodes, err = l.nodes(isPair); err != nil {
		return p, err
	}
	if verb != "powercut" {
		return p, nil
	}
	return p, l.options(map[string]func(string) error{"tear=": func(word string) (err error) {
		p.Tear, err = oneOf("prefix", "all", "pages")(word)
		return err
	}})
}

func parseRolling(l *line) (Action, error) {
	r := Rolling{Down: time.Second, Every: 5 * time.Second}
	var err error
	if r.Verb, err = oneOf("stop", "kill", "powercut")(l.next()); err != nil {
		return r, err
	}
	if r.Nodes, err = l.nodes(isPair); err != nil {
		return r, err
	}
	err = l.options(map[string]func(string) error{"down=": into(&r.Down, positive), "every=": into(&r.Every, positive)})
	if err == nil && r.Every <= r.Down {
		err = fmt.Errorf("every=%s: want more than down=%s", short(r.Every), short(r.Down))
	}
	return r, err
}

func parseLink(l *line) (Action, error) {
	i := slices.IndexFunc(l.words, func(w string) bool { return isPair(w) || w == "normal" })
	if i < 0 {
		return nil, fmt.Errorf("want what the link is like, such as latency=200ms, or normal")
	}
	words := l.words[:i]
	l.words = l.words[i:]
	var k Link
	var err error
	if bar, arrow := slices.Index(words, "|"), slices.Index(words, "->"); arrow >= 0 {
		k.Nodes, k.To, err = oneWay(words, arrow)
	} else if bar >= 0 {
		k.Nodes, k.To, err = oneWay(words, bar)
		k.Both = true
	} else if k.Nodes, err = names("node", words); err == nil && k.Nodes[0] == allNodes {
		k.Nodes = nil
	}
	for _, side := range [][]string{k.Nodes, k.To} {
		if err == nil && slices.Contains(side, allNodes) {
			err = fmt.Errorf("all is every link: it has no other side")
		}
	}
	if err != nil || l.take("normal") {
		return k, err
	}
	k.Shape, err = parseShape(l)
	return k, err
}

var diskFaults = []string{"sync-error", "full", "slow", "readonly", "lies", "damage", "mend"}

func parseDisk(l *line) (Action, error) {
	d := Disk{}
	var err error
	if d.Nodes, err = l.nodes(func(w string) bool { return isPair(w) || slices.Contains(diskFaults, w) }); err != nil {
		return d, err
	}
	if d.Fault, err = oneOf(diskFaults...)(l.next()); err != nil {
		return d, err
	}
	options := map[string]func(string) error{}
	switch d.Fault {
	case "sync-error":
		d.Times = 1
		options["times="], options["kept"] = into(&d.Times, counted(1, 1000)), flag(&d.Kept, true)
	case "full":
		options["room="] = into(&d.Room, sized(64<<20))
	case "slow":
		d.Delay = 500 * time.Millisecond
		options["delay="] = into(&d.Delay, positive)
	case "damage":
		d.File = "journal"
		options["file="] = into(&d.File, oneOf("journal", "table", "manifest"))
	}
	return d, l.options(options)
}

func parseClock(l *line) (Action, error) {
	words := l.rest()
	if len(words) < 2 {
		return nil, fmt.Errorf("want nodes, and how wrong their clocks are, such as +1h or -5m, or right")
	}
	last := words[len(words)-1]
	c := Clock{}
	var err error
	if c.Nodes, err = names("node", words[:len(words)-1]); err != nil || last == "right" {
		return c, err
	}
	if last[0] != '+' && last[0] != '-' {
		return c, fmt.Errorf("%q: want a sign, such as +1h or -5m, or right", last)
	}
	d, err := time.ParseDuration(last)
	if most := 24 * time.Hour; err != nil || d == 0 || d.Abs() > most {
		return c, fmt.Errorf("clock %q: want -%s to +%s, but not 0", last, short(most), short(most))
	}
	c.Offset = d
	return c, nil
}

func parseView(l *line) (Action, error) {
	if l.take("right") {
		return View{Right: true}, nil
	}
	v := View{}
	var err error
	if v.Node, err = name("node", l.next()); err != nil {
		return v, err
	}
	if !l.take("sees") {
		return v, fmt.Errorf("want view NODE sees NODE up, or down, or view right")
	}
	if v.Subject, err = name("node", l.next()); err != nil {
		return v, err
	}
	how, err := oneOf("up", "down")(l.next())
	v.Up = how == "up"
	if err == nil && v.Node == v.Subject {
		err = fmt.Errorf("node %s sees itself", v.Node)
	}
	return v, err
}

func parseOp(verb string, l *line) (Action, error) {
	o := Op{Verb: verb, Level: Quorum, Timeout: opTimeout}
	var err error
	if o.Node, err = name("node", l.next()); err != nil {
		return o, err
	}
	options := map[string]func(string) error{"timeout=": into(&o.Timeout, positive)}
	write := verb == "put" || verb == "delete"
	switch {
	case write:
		options["w="], options["after="] = into(&o.Level, ParseLevel), into(&o.After, named("read"))
		options["sloppy"] = flag(&o.Sloppy, true)
	case verb == "get":
		options["r="], options["as="] = into(&o.Level, ParseLevel), into(&o.As, named("read"))
	case verb == "read-local":
		o.Level = One
	case verb == "read-all":
		o.Level = All
		options["r="] = into(&o.Level, ParseLevel)
	}
	if verb != "read-all" {
		if o.Key, err = name("key", l.next()); err != nil {
			return o, err
		}
	}
	if verb == "put" {
		options["ttl="] = into(&o.TTL, positive)
		if o.Value, err = name("value", l.next()); err != nil {
			return o, err
		}
	}
	if err = l.options(options); err != nil {
		return o, err
	}
	if verb == "delete" && o.After == "" {
		return o, fmt.Errorf("want after=READ: what a delete without a context meets is nobody's to know")
	}
	if l.take("->") {
		o.Want, err = parseWant(l, !write && verb != "read-all")
	}
	return o, err
}

func parseRecords(l *line) (Action, error) {
	var r Records
	var err error
	if r.Key, err = name("key", l.next()); err != nil {
		return r, err
	}
	if !l.take("->") {
		return r, fmt.Errorf("want records KEY -> some, or none")
	}
	r.Want, err = oneOf("some", "none")(l.next())
	return r, err
}

func parseWant(l *line, read bool) (Want, error) {
	words := l.rest()
	switch {
	case len(words) == 1 && slices.Contains([]string{"ok", "refused", "unknown", "failed"}, words[0]):
		return Want{Outcome: words[0]}, nil
	case !read || len(words) == 0:
		return Want{}, fmt.Errorf("-> %s: want ok, refused, unknown, or failed", strings.Join(words, " "))
	case len(words) == 1 && words[0] == "absent":
		return Want{Absent: true}, nil
	}
	values, err := names("value", words)
	slices.Sort(values)
	return Want{Values: values}, err
}
