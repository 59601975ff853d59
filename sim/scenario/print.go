package scenario

import (
	"fmt"
	"strings"
	"time"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// String is the scenario as a text, in one order and one way to write: parsing it
// gives the same scenario again. Comments but the leading one are lost.
func (s *Scenario) String() string {
	var b strings.Builder
	for _, c := range s.Story {
		b.WriteString(strings.TrimRight("# "+c, " ") + "\n")
	}
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("cluster %s", strings.Join(s.members(), " "))
	if len(s.Spare) > 0 {
		line("spare %s", strings.Join(s.Spare, " "))
	}
	for _, z := range s.Zones {
		line("zone %s %s", z.Name, strings.Join(z.Nodes, " "))
	}
	if s.Replicas > 0 {
		line("replicas %d", s.Replicas)
	}
	if s.Partitions > 0 {
		line("partitions %d", s.Partitions)
	}
	if s.Link != nil {
		line("network %s", shapeText(s.Link))
	}
	if s.Pace != (sim.Pace{}) {
		line("repair%s", paceText(s.Pace))
	}
	for _, k := range s.Keys {
		line("key %s homes %s", k.Key, strings.Join(k.Homes, " "))
	}
	for _, l := range s.Loads {
		line("%s", l.words())
	}
	for _, st := range s.Steps {
		line("%s", st.String())
	}
	for _, e := range s.Expects {
		line("expect %s", e.What.words())
	}
	return b.String()
}

// String is the step as it is written.
func (st Step) String() string {
	out := st.Do.words()
	if st.Timed {
		out = "at " + short(st.At) + " " + out
	}
	if st.For > 0 {
		out += " for " + short(st.For)
	}
	return out
}

// option adds name=value, unless the value is what it is anyway.
func option(b *strings.Builder, name, value, usual string) {
	if value != usual {
		b.WriteString(" " + name + "=" + value)
	}
}

func paceText(p sim.Pace) string {
	var b strings.Builder
	option(&b, "audit", short(p.Audit), "0s")
	option(&b, "scrub", short(p.Scrub), "0s")
	option(&b, "forget", short(p.Forget), "0s")
	return b.String()
}

func (l Load) words() string {
	var b strings.Builder
	b.WriteString("load " + l.Name)
	if len(l.At) > 0 {
		b.WriteString(" at " + strings.Join(l.At, ","))
	}
	if l.Direct {
		b.WriteString(" direct")
	}
	if l.Blind {
		b.WriteString(" blind")
	}
	if l.Sloppy {
		b.WriteString(" sloppy")
	}
	option(&b, "ttl", short(l.TTL), "0s")
	option(&b, "clients", fmt.Sprint(l.Clients), "1")
	option(&b, "rate", rateText(l.Rate), "10/s")
	option(&b, "keys", fmt.Sprint(l.Keys), "20")
	option(&b, "prefix", l.Prefix, "k")
	option(&b, "reads", fmt.Sprintf("%d%%", l.Reads), "50%")
	option(&b, "size", bytesText(l.Size), "0")
	option(&b, "r", l.R.String(), "quorum")
	option(&b, "w", l.W.String(), "quorum")
	option(&b, "timeout", short(l.Timeout), "2s")
	option(&b, "from", short(l.From), "0s")
	option(&b, "to", short(l.To), "0s")
	return b.String()
}

func shapeText(s *network.Link) string {
	var b strings.Builder
	b.WriteString("latency=" + short(s.Latency))
	option(&b, "jitter", short(s.Jitter), "1ms")
	option(&b, "loss", shareText(s.Loss), "0%")
	option(&b, "reset", shareText(s.Reset), "0%")
	option(&b, "duplicate", shareText(s.Duplicate), "0%")
	option(&b, "late", shareText(s.Late), "0%")
	option(&b, "lateby", short(s.LateBy), "0s")
	option(&b, "bandwidth", bytesText(s.Bandwidth), "0")
	return b.String()
}

func sides(groups [][]string) string {
	var out []string
	for _, g := range groups {
		out = append(out, strings.Join(g, " "))
	}
	return strings.Join(out, " | ")
}

func (c Cut) words() string { return "cut " + sides(c.Groups) }
func (c OneWay) words() string {
	return "cut " + strings.Join(c.From, " ") + " -> " + strings.Join(c.To, " ")
}
func (i Isolate) words() string { return "isolate " + strings.Join(i.Nodes, " ") }
func (f Flap) words() string    { return "flap " + sides(f.Groups) + " every=" + short(f.Every) }
func (Heal) words() string      { return "heal" }

func (p Process) words() string {
	var b strings.Builder
	b.WriteString(p.Verb + " " + strings.Join(p.Nodes, " "))
	option(&b, "tear", p.Tear, "")
	return b.String()
}

func (r Rolling) words() string {
	var b strings.Builder
	b.WriteString("rolling " + r.Verb + " " + strings.Join(r.Nodes, " "))
	option(&b, "down", short(r.Down), "1s")
	option(&b, "every", short(r.Every), "5s")
	return b.String()
}

func (k Link) words() string {
	out := "link " + allNodes
	if len(k.Nodes) > 0 {
		out = "link " + strings.Join(k.Nodes, " ")
	}
	switch {
	case k.Both:
		out += " | " + strings.Join(k.To, " ")
	case len(k.To) > 0:
		out += " -> " + strings.Join(k.To, " ")
	}
	if k.Shape == nil {
		return out + " normal"
	}
	return out + " " + shapeText(k.Shape)
}

func (d Disk) words() string {
	var b strings.Builder
	b.WriteString("disk " + strings.Join(d.Nodes, " ") + " " + d.Fault)
	switch d.Fault {
	case "sync-error":
		option(&b, "times", fmt.Sprint(d.Times), "1")
		if d.Kept {
			b.WriteString(" kept")
		}
	case "full":
		option(&b, "room", bytesText(d.Room), "0")
	case "slow":
		option(&b, "delay", short(d.Delay), "500ms")
	case "damage":
		option(&b, "file", d.File, "journal")
	}
	return b.String()
}

func (c Clock) words() string {
	nodes := "clock " + strings.Join(c.Nodes, " ")
	switch {
	case c.Offset > 0:
		return nodes + " +" + short(c.Offset)
	case c.Offset < 0:
		return nodes + " -" + short(-c.Offset)
	}
	return nodes + " right"
}

func (v View) words() string {
	switch {
	case v.Right:
		return "view right"
	case v.Up:
		return "view " + v.Node + " sees " + v.Subject + " up"
	}
	return "view " + v.Node + " sees " + v.Subject + " down"
}

func (o Op) words() string {
	var b strings.Builder
	b.WriteString(o.Verb + " " + o.Node)
	for _, w := range []string{o.Key, o.Value} {
		if w != "" {
			b.WriteString(" " + w)
		}
	}
	switch o.Verb {
	case "put", "delete":
		option(&b, "w", o.Level.String(), "quorum")
		option(&b, "after", o.After, "")
		option(&b, "ttl", short(o.TTL), "0s")
		if o.Sloppy {
			b.WriteString(" sloppy")
		}
	case "get":
		option(&b, "r", o.Level.String(), "quorum")
		option(&b, "as", o.As, "")
	case "read-all":
		option(&b, "r", o.Level.String(), "all")
	}
	option(&b, "timeout", short(o.Timeout), short(opTimeout))
	if w := o.Want.words(); w != "" {
		b.WriteString(" -> " + w)
	}
	return b.String()
}

func (w Want) words() string {
	switch {
	case w.Absent:
		return "absent"
	case len(w.Values) > 0:
		return strings.Join(w.Values, " ")
	}
	return w.Outcome
}

func (r Records) words() string { return "records " + r.Key + " -> " + r.Want }
func (w Wait) words() string    { return "wait " + short(w.Length) }
func (End) words() string       { return "end" }
func (n Note) words() string    { return strings.TrimRight("note "+n.Text, " ") }

func (o Operations) words() string {
	var b strings.Builder
	word := func(words ...string) { b.WriteString(" " + strings.Join(words, " ")) }
	b.WriteString(o.Kind)
	if o.Level != nil {
		word("at", o.Level.String())
	}
	if o.Load != "" {
		word("by", o.Load)
	}
	if len(o.On) > 0 {
		word("on", strings.Join(o.On, ","))
	}
	if o.Held != "" {
		word("where", o.Held)
	}
	word(o.Verb)
	switch {
	case o.Verb == "take":
		word("at", "most", short(o.Limit))
	case o.Verb == "are" && (o.How == "never" || o.How == "sometimes"):
		word(o.How, o.Outcome)
	case o.Verb == "are":
		word(o.Outcome)
	}
	if o.How == "share" {
		word(fmt.Sprintf("%d%%", o.Percent))
	}
	b.WriteString(span(o.From, o.To))
	return b.String()
}

// span is from and to as they are written.
func span(from, to time.Duration) string {
	out := ""
	if from > 0 {
		out += " from " + short(from)
	}
	if to > 0 {
		out += " to " + short(to)
	}
	return out
}

func (c Count) words() string    { return fmt.Sprintf("at least %d %s succeed", c.Least, c.Kind) }
func (p Promised) words() string { return p.Words }
func (e Equal) words() string    { return "equal within " + short(e.Within) }

func (n Named) words() string {
	if n.Not {
		return n.Node + " is not named for " + n.For
	}
	return n.Node + " is named for " + n.For
}

func (s Shown) words() string {
	if len(s.Values) == 0 {
		return "siblings of " + s.Key + ": none"
	}
	return "siblings of " + s.Key + ": " + strings.Join(s.Values, " ")
}
