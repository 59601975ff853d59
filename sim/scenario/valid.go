package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/ring"
)

// homesUsual is how many homes a key has unless told.
const homesUsual = 3

// homes is how many homes a key has.
func (s *Scenario) homes() int {
	if s.Replicas > 0 {
		return s.Replicas
	}
	return min(homesUsual, len(s.members()))
}

// homesMost is the most homes that a key is to have at any time.
func (s *Scenario) homesMost() int {
	most := s.homes()
	for _, st := range s.Steps {
		if c, ok := st.Do.(Change); ok && c.Verb == "replicas" {
			most = max(most, c.Number)
		}
	}
	return most
}

// members are the nodes that found the cluster.
func (s *Scenario) members() []string { return s.Nodes[:len(s.Nodes)-len(s.Spare)] }

// length is when the script ends at the earliest: at its end step, or when all is
// done and undone.
func (s *Scenario) length() time.Duration {
	var end, at, last time.Duration
	for _, st := range s.Steps {
		if st.Timed {
			at = max(at, st.At)
		}
		switch a := st.Do.(type) {
		case Wait:
			at += a.Length
		case Rolling:
			last = max(last, at+time.Duration(len(s.expand(a.Nodes)))*a.Every)
		case End:
			end = at
		}
		last = max(last, at+st.For)
	}
	if end > 0 {
		return end
	}
	return last
}

// expand puts all nodes in place of "all".
func (s *Scenario) expand(nodes []string) []string {
	if len(nodes) == 1 && nodes[0] == allNodes {
		return s.Nodes
	}
	return nodes
}

// checker collects what is wrong with a scenario whose lines are right.
type checker struct {
	*Scenario
	errs []error
}

func (c *checker) fail(line int, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if line > 0 {
		text = fmt.Sprintf("line %d: %s", line, text)
	}
	c.errs = append(c.errs, fmt.Errorf("%s", text))
}

// known wants nodes that the cluster has.
func (c *checker) known(line int, nodes ...string) {
	for _, n := range nodes {
		if n != allNodes && !slices.Contains(c.Nodes, n) {
			c.fail(line, "node %s is not in the cluster: it has %s", n, strings.Join(c.Nodes, " "))
		}
	}
}

// single wants nodes by their names.
func (c *checker) single(line int, nodes []string) {
	if slices.Contains(nodes, allNodes) {
		c.fail(line, "all: want the nodes by name here")
	}
	c.known(line, nodes...)
}

func (c *checker) level(line int, l Level) {
	if int(l) > c.homes() {
		c.fail(line, "level %v: a key has %d homes", l, c.homes())
	}
}

// check looks at what a line alone cannot tell.
func (s *Scenario) check() []error {
	c := &checker{Scenario: s}
	switch n := len(s.members()); {
	case n == 0:
		c.fail(0, "want a line cluster NODE NODE ...")
		return c.errs
	case slices.Contains(s.Nodes, allNodes):
		c.fail(0, "cluster: all is no name")
	case len(s.Nodes) > NodesMax:
		c.fail(0, "cluster of %d nodes: want 1 to %d", len(s.Nodes), NodesMax)
	case s.Replicas > n:
		c.fail(0, "%d replicas on %d nodes: each home of a key is another node", s.Replicas, n)
	case s.Partitions&(s.Partitions-1) != 0:
		c.fail(0, "partitions %d: want a power of two", s.Partitions)
	}
	if s.Replicas > ring.ReplicasMax {
		c.fail(0, "replicas %d: want 1 to %d", s.Replicas, ring.ReplicasMax)
	}
	for i, n := range s.Nodes {
		if slices.Contains(s.Nodes[:i], n) {
			c.fail(0, "node %s is there twice", n)
		}
	}
	c.zones()
	c.keys()
	c.loads()
	c.steps()
	c.expects()
	return c.errs
}

func (c *checker) zones() {
	stands := map[string]string{}
	for _, z := range c.Zones {
		c.single(0, z.Nodes)
		for _, n := range z.Nodes {
			if other := stands[n]; other != "" {
				c.fail(0, "node %s stands in zone %s and in zone %s", n, other, z.Name)
			}
			stands[n] = z.Name
		}
	}
}

func (c *checker) keys() {
	seen := map[string]bool{}
	for _, k := range c.Keys {
		if seen[k.Key] {
			c.fail(k.Line, "key %s is there twice", k.Key)
		}
		seen[k.Key] = true
		c.known(k.Line, k.Homes...)
		if n := len(c.expand(k.Homes)); n != c.homes() {
			c.fail(k.Line, "%d homes: a key has %d", n, c.homes())
		}
	}
}

func (c *checker) loads() {
	end, ops := c.length(), 0.0
	names := map[string]bool{}
	puts, blind := map[string]float64{}, map[string]float64{} // a key of a prefix
	for _, l := range c.Loads {
		if names[l.Name] {
			c.fail(l.Line, "load %s is there twice", l.Name)
		}
		names[l.Name] = true
		c.single(l.Line, l.At)
		c.level(l.Line, l.R)
		c.level(l.Line, l.W)
		to := l.To
		if to == 0 {
			to = end
		}
		if to <= l.From {
			c.fail(l.Line, "load %s from %s has no end: add at TIME end after it, or to=TIME", l.Name, short(l.From))
			continue
		}
		ops += l.Rate * (to - l.From).Seconds()
		each := l.Rate * (to - l.From).Seconds() * float64(100-l.Reads) / 100 / float64(l.Keys)
		puts[l.Prefix] += each
		if l.Blind {
			blind[l.Prefix] += each
		}
		switch {
		case puts[l.Prefix] > PutsMax:
			c.fail(l.Line, "loads of about %.0f puts a key of %s: want at most %d: take more keys, or end earlier", puts[l.Prefix], l.Prefix, PutsMax)
		case blind[l.Prefix] > BlindMax:
			c.fail(l.Line, "loads of about %.0f blind puts a key of %s: want at most %d: take more keys, or end earlier", blind[l.Prefix], l.Prefix, BlindMax)
		}
	}
	if ops > OpsMax {
		c.fail(0, "loads of about %.0f operations: want at most %d in all: lower a rate, or end earlier", ops, OpsMax)
	}
}

func (c *checker) steps() {
	var last time.Duration
	values := map[[2]string]int{}
	reads := map[string]string{}
	ended := 0
	for _, st := range c.Steps {
		if st.Timed && st.At < last {
			c.fail(st.Line, "at %s: the step before is at %s, and steps stand in order", short(st.At), short(last))
		}
		last = max(last, st.At)
		if ended > 0 {
			if _, ok := st.Do.(End); ok {
				c.fail(st.Line, "end stands in line %d already", ended)
			}
		}
		c.action(st)
		switch a := st.Do.(type) {
		case End:
			ended = st.Line
		case Op:
			c.op(st.Line, a, values, reads)
		}
	}
	if c.length() > TimeMax {
		c.fail(0, "the script lasts %s: want at most %s", short(c.length()), short(TimeMax))
	}
}

// action checks the nodes of a step.
func (c *checker) action(st Step) {
	switch a := st.Do.(type) {
	case Cut:
		c.known(st.Line, slices.Concat(a.Groups...)...)
	case Flap:
		c.known(st.Line, slices.Concat(a.Groups...)...)
	case OneWay:
		c.known(st.Line, slices.Concat(a.From, a.To)...)
	case Isolate:
		c.known(st.Line, a.Nodes...)
	case Process:
		c.known(st.Line, a.Nodes...)
	case Rolling:
		c.known(st.Line, a.Nodes...)
	case Link:
		c.known(st.Line, slices.Concat(a.Nodes, a.To)...)
	case Disk:
		c.known(st.Line, a.Nodes...)
	case Clock:
		c.known(st.Line, a.Nodes...)
	case View:
		if !a.Right {
			c.known(st.Line, a.Node, a.Subject)
		}
	case Change:
		c.known(st.Line, a.Nodes...)
		for _, n := range []string{a.With, a.Through} {
			if n != "" {
				c.known(st.Line, n)
			}
		}
	case Op:
		c.known(st.Line, a.Node)
		c.level(st.Line, a.Level)
	}
}

// op checks what the oracle needs: values name their writes, and contexts come
// from reads of the same key.
func (c *checker) op(line int, o Op, values map[[2]string]int, reads map[string]string) {
	if o.Verb == "put" {
		id := [2]string{o.Key, o.Value}
		if before := values[id]; before > 0 {
			c.fail(line, "value %s is put to %s in line %d already: values name the write", o.Value, o.Key, before)
		}
		values[id] = line
	}
	if o.As != "" {
		if _, ok := reads[o.As]; ok {
			c.fail(line, "read %s is there twice", o.As)
		}
		reads[o.As] = o.Key
	}
	if o.After != "" {
		if key, ok := reads[o.After]; !ok {
			c.fail(line, "after=%s: no line before has as=%s", o.After, o.After)
		} else if key != o.Key {
			c.fail(line, "after=%s: that was a read of %s, not of %s", o.After, key, o.Key)
		}
	}
}

func (c *checker) expects() {
	for _, e := range c.Expects {
		switch w := e.What.(type) {
		case Operations:
			c.single(e.Line, w.On)
			if w.Level != nil {
				c.level(e.Line, *w.Level)
			}
			if w.Load != "" && !slices.ContainsFunc(c.Loads, func(l Load) bool { return l.Name == w.Load }) {
				c.fail(e.Line, "there is no load %s", w.Load)
			}
			if w.Outcome == "stale" && w.Kind != "reads" {
				c.fail(e.Line, "%s are not stale: want reads", w.Kind)
			}
		case Named:
			c.single(e.Line, []string{w.Node})
		case Members:
			c.single(e.Line, w.Nodes)
		}
	}
}
