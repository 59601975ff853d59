package sim

import (
	"errors"
	"fmt"
)

// Promise is one of the promises that Check holds a history to.
type Promise string

// The promises.
const (
	Kept           Promise = "no acknowledged write is lost"
	RefusedNowhere Promise = "no refused write exists"
	Siblings       Promise = "siblings are those that the oracle has"
	Forwards       Promise = "no quorum read goes backwards"
	// These two are for stories in which no clock is wrong.
	InTime  Promise = "no put is minted after its time"
	Expired Promise = "what has expired is not shown"
	// These are of the cluster after it was healed, not of a history.
	Converged Promise = "all homes show the same in the end"
	OneRing   Promise = "all agree on the ring record"
	// Repaired is without a read, TreesTrue of trees against what lies on disk.
	Repaired  Promise = "copies become equal by themselves"
	TreesTrue Promise = "hash trees are those of the records"
	// ChangesEnd is of the ring, once everything is healed.
	ChangesEnd Promise = "every change of the ring comes to its end"
	// NotesTrue is of what members have pulled for moves.
	NotesTrue Promise = "what is noted of a pull is there"
	// Fenced and Intersect are of receipts and the ring records that nodes have held.
	Fenced    Promise = "nobody answers for an epoch behind its fence"
	Intersect Promise = "quorums of overlapping epochs intersect"
	// Counted and Handed are, too.
	Counted Promise = "nobody counts for an epoch that it has not adopted"
	Handed  Promise = "reads are handed over behind the fence"
	// Bounded is of every node, while a story is played and when it is over.
	Bounded Promise = "what nodes keep for others stays within its bounds"
)

// Promises lists those that a history is held to.
func Promises() []Promise { return []Promise{Kept, RefusedNowhere, Siblings, Forwards, Expired} }

// Broken is how a history breaks a promise.
type Broken struct {
	Promise Promise
	text    string
}

// Error tells what was found.
func (b *Broken) Error() string { return b.text }

func broken(p Promise, format string, args ...any) error {
	return &Broken{p, fmt.Sprintf(format, args...)}
}

// Finding is the first key that breaks a promise.
type Finding struct {
	Key string
	Err error
}

// Judge is Check for each promise by itself: what it does not give was kept. Keys
// of the history that final does not have are left out.
func Judge(h *History, final map[string][]string) map[Promise]Finding {
	out := map[Promise]Finding{}
	byKey := h.byKey()
	for _, key := range h.Keys() {
		shown, ok := final[key]
		if !ok {
			continue
		}
		for _, err := range newOracle(byKey[key], h).check(shown) {
			var b *Broken
			if !errors.As(err, &b) {
				panic("sim: a promise without a name: " + err.Error())
			}
			if _, found := out[b.Promise]; !found {
				out[b.Promise] = Finding{key, err}
			}
		}
	}
	return out
}

// Missed gives, for every read that was done and showed less than had been
// acknowledged before it began, the first write that it missed. That is no broken
// promise if one of the two asked for less than a quorum.
func Missed(h *History) map[*Op]*Op {
	out := map[*Op]*Op{}
	for _, ops := range h.byKey() {
		k := newOracle(ops, h)
		for _, read := range ops {
			if !read.Read || read.Outcome != Done {
				continue
			}
			for _, put := range ops {
				if put.Read || put.Outcome != Done || !put.Ended.Before(read.Began) || k.covered(put.Value, read.Saw, read.Ended) {
					continue
				}
				if first := out[read]; first == nil || put.Ended.Before(first.Ended) {
					out[read] = put
				}
			}
		}
	}
	return out
}

// byKey gives the operations of every key, in the order of their beginning.
func (h *History) byKey() map[string][]*Op {
	out := map[string][]*Op{}
	for _, o := range h.Ops() {
		out[o.Key] = append(out[o.Key], o)
	}
	return out
}
