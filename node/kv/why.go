package kv

import (
	"fmt"
	"strings"
	"time"

	"github.com/kithdb/kith/rpc/api"
)

// underWay is how long a write may be missing somewhere without that being
// remarkable.
const underWay = 2 * time.Second

// account explains one inspection. The first homes of its copies are the homes',
// in the order of their slots; the others are kept by stand-ins.
type account struct {
	homes []api.CopyInfo
	kept  []api.CopyInfo
	now   uint64 // milliseconds since 1970
	dots  []api.DotInfo
	// siblings has, for each dot, one copy of its sibling.
	siblings map[api.DotInfo]*api.SiblingInfo
	winner   api.DotInfo
	lines    []string
}

// explain says in sentences what an inspection shows: what differs, why, and what
// will mend it. It depends on nothing but its input.
func explain(seen *api.InspectResponse, homes int, now uint64) []string {
	a := &account{homes: seen.Copies[:homes], kept: seen.Copies[homes:], now: now, siblings: make(map[api.DotInfo]*api.SiblingInfo)}
	a.dots = dotsOf(seen.Copies)
	for i := range seen.Copies {
		for j := range seen.Copies[i].Siblings {
			s := &seen.Copies[i].Siblings[j]
			a.siblings[s.DotInfo] = s
		}
	}
	a.findWinner()
	a.tellState(seen.Equal)
	for i := range a.homes {
		a.tellHome(&a.homes[i])
	}
	if !seen.Equal {
		a.tellDamage()
	}
	for i := range a.kept {
		a.tellKept(&a.kept[i])
	}
	return a.lines
}

func (a *account) say(format string, args ...any) {
	a.lines = append(a.lines, fmt.Sprintf(format, args...))
}

// findWinner takes the winner of all that nobody has replaced.
func (a *account) findWinner() {
	var best *api.SiblingInfo
	for _, d := range a.dots {
		s := a.siblings[d]
		if len(a.replacers(d)) > 0 {
			continue
		}
		if best == nil || s.Stamp > best.Stamp ||
			s.Stamp == best.Stamp && (s.Actor > best.Actor || s.Actor == best.Actor && s.Seq > best.Seq) {
			best = s
		}
	}
	if best != nil {
		a.winner = best.DotInfo
	}
}

// tellState says what a reader who hears all homes would get.
func (a *account) tellState(equal bool) {
	live := 0
	for _, d := range a.dots {
		if len(a.replacers(d)) == 0 {
			live++
		}
	}
	held := len(dotsOf(a.homes)) > 0
	switch s := a.siblings[a.winner]; {
	case !held && equal:
		a.say("no home has a value of this key")
	case s == nil:
		a.say("no home that answers has a value of this key")
	case s.Tombstone:
		a.say("the key reads as not found: it was deleted at %s (%s)", instant(s.Written), dotName(s.DotInfo))
	case s.Expired:
		a.say("the key reads as not found: its value expired at %s (%s)", instant(int64(s.Expiry)), dotName(s.DotInfo))
	}
	if live > 1 {
		a.say("it has %d siblings, whose writers had not seen each other: a put with the context of a read replaces them", live)
	}
	if equal && held {
		a.say("all %d homes hold the same", len(a.homes))
	}
}

// tellHome says what one home lacks, and what it holds that is gone elsewhere.
func (a *account) tellHome(h *api.CopyInfo) {
	if h.Error != "" {
		a.say("%s does not show its copy: %s; what it lacks is brought to it once it is back", a.name(h), h.Error)
		return
	}
	var unclaimed, claimed, stale []api.DotInfo
	for _, d := range a.dots {
		switch {
		case holds(h, d):
			if len(a.replacers(d)) > 0 {
				stale = append(stale, d)
			}
		case covers(h, d) || len(a.replacers(d)) > 0: // gone here, or elsewhere
		case claims(h, d):
			claimed = append(claimed, d)
		default:
			unclaimed = append(unclaimed, d)
		}
	}
	if len(unclaimed) > 0 {
		a.say("%s lacks %s: its clock does not have it; %s", a.name(h), a.writes(unclaimed), a.cure(unclaimed))
	}
	if len(claimed) > 0 {
		a.tellClaimed(h, claimed)
	}
	if len(stale) > 0 {
		a.tellStale(h, stale)
	}
	if !h.CountsForRead {
		a.say("%s does not count for reads now: it has lost data, or does not know yet whether it lacks any", a.name(h))
	}
}

// tellClaimed is about writes that a home's clock has and its copy lacks.
func (a *account) tellClaimed(h *api.CopyInfo, dots []api.DotInfo) {
	for _, d := range dots {
		if s := a.siblings[d]; !s.Tombstone && !s.Expired {
			a.say("%s lacks %s, although its clock claims to have it: the next audit with %s will find and mend that",
				a.name(h), a.writes(dots), a.names(a.holders(d)))
			return
		}
	}
	a.say("%s has forgotten %s, as every home does once all of them have it", a.name(h), a.writes(dots))
}

// tellStale is about siblings that another home has seen replaced.
func (a *account) tellStale(h *api.CopyInfo, dots []api.DotInfo) {
	by := a.replacers(dots[0])
	text := fmt.Sprintf("%s holds %s, which %s %s replaced", a.name(h), a.writes(dots), a.names(by), plural(len(by), "has", "have"))
	for _, b := range by {
		for j := range b.Siblings {
			if d := b.Siblings[j].DotInfo; !holds(h, d) && !covers(h, d) {
				a.say("%s: it goes when %s comes", text, dotName(d))
				return
			}
		}
	}
	a.say("%s: the next audit, or a read, will find that", text)
}

// tellDamage is about homes that hold the same writes and yet differ.
func (a *account) tellDamage() {
	var first *api.CopyInfo
	for i := range a.homes {
		h := &a.homes[i]
		if h.Error != "" || len(h.Siblings) == 0 {
			continue
		}
		if first == nil {
			first = h
			continue
		}
		same := len(first.Siblings) == len(h.Siblings)
		for j := range h.Siblings {
			same = same && holds(first, h.Siblings[j].DotInfo)
		}
		if same && first.Digest != h.Digest {
			a.say("%s and %s hold the same writes with different content: one of them is damaged", a.name(first), a.name(h))
		}
	}
}

// tellKept is about what a stand-in keeps.
func (a *account) tellKept(k *api.CopyInfo) {
	home := short(k.StandsInFor)
	var at *api.CopyInfo
	for i := range a.homes {
		if a.homes[i].Member == k.StandsInFor {
			at = &a.homes[i]
			home = a.name(at)
		}
	}
	if k.Error != "" {
		a.say("%s keeps a copy for %s that cannot be read: %s", a.name(k), home, k.Error)
		return
	}
	lacks := 0
	for j := range k.Siblings {
		if d := k.Siblings[j].DotInfo; at != nil && at.Error == "" && !holds(at, d) && !covers(at, d) && !claims(at, d) {
			lacks++
		}
	}
	switch {
	case at == nil:
		a.say("%s keeps a copy for %s, which is no home any more: it goes to the homes", a.name(k), home)
	case at.Error != "":
		a.say("%s keeps a copy for %s until that can be reached", a.name(k), home)
	case lacks == 0:
		a.say("%s keeps a copy for %s, which has all of it: it will be dropped", a.name(k), home)
	default:
		a.say("%s keeps a copy for %s and will bring it", a.name(k), home)
	}
}

// cure says what will bring writes that a home has never had.
func (a *account) cure(dots []api.DotInfo) string {
	for _, d := range dots {
		if age := time.Duration(int64(a.now)-a.siblings[d].Written) * time.Millisecond; age < underWay {
			return "it was written just now and may still be on its way"
		}
	}
	if from := a.holders(dots[0]); len(from) > 0 {
		return "catch-up from " + a.names(from) + " will bring it"
	}
	return "no home has it, a stand-in will bring it"
}

// holders are the homes that hold a sibling.
func (a *account) holders(d api.DotInfo) (out []*api.CopyInfo) {
	for i := range a.homes {
		if holds(&a.homes[i], d) {
			out = append(out, &a.homes[i])
		}
	}
	return out
}

// replacers are the homes that have seen a sibling and hold it no more.
func (a *account) replacers(d api.DotInfo) (out []*api.CopyInfo) {
	for i := range a.homes {
		if h := &a.homes[i]; !holds(h, d) && covers(h, d) {
			out = append(out, h)
		}
	}
	return out
}

// writes names dots: the newest write by what it is, of many the first ones.
func (a *account) writes(dots []api.DotInfo) string {
	const most = 3
	if len(dots) == 1 {
		if dots[0] == a.winner {
			return fmt.Sprintf("the newest write (%s)", dotName(dots[0]))
		}
		return fmt.Sprintf("a write (%s)", dotName(dots[0]))
	}
	var names []string
	for _, d := range dots[:min(most, len(dots))] {
		names = append(names, dotName(d))
	}
	if more := len(dots) - most; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return fmt.Sprintf("%d writes (%s)", len(dots), strings.Join(names, ", "))
}

func (a *account) name(c *api.CopyInfo) string {
	if c.Name != "" {
		return c.Name
	}
	return short(c.Member)
}

func (a *account) names(copies []*api.CopyInfo) string {
	var out []string
	for _, c := range copies {
		out = append(out, a.name(c))
	}
	if len(out) < 2 {
		return strings.Join(out, "")
	}
	return strings.Join(out[:len(out)-1], ", ") + " and " + out[len(out)-1]
}

// holds says that the sibling is in the copy.
func holds(c *api.CopyInfo, d api.DotInfo) bool {
	for i := range c.Siblings {
		if c.Siblings[i].DotInfo == d {
			return true
		}
	}
	return false
}

// covers says that the copy has seen the write.
func covers(c *api.CopyInfo, d api.DotInfo) bool {
	for _, s := range c.Seen {
		if s.Actor == d.Actor {
			return d.Seq <= s.Seq
		}
	}
	return false
}

// claims says that the home's clock has the write.
func claims(c *api.CopyInfo, d api.DotInfo) bool {
	for _, i := range c.Incorporated {
		if i == d {
			return true
		}
	}
	return false
}

func dotName(d api.DotInfo) string { return fmt.Sprintf("dot %s:%d", short(d.Actor), d.Seq) }

func short(s string) string { return s[:min(len(s), 8)] }

func instant(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
