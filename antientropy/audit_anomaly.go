package antientropy

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// Bounds of what is kept of anomalies.
const (
	anomaliesMax     = 100 // sentences of one audit
	anomalyKeysMax   = 1024
	anomalyLogEvery  = time.Second
	anomalyDotsShown = 8
)

// claim is what a home holds and claims of a dot.
type claim struct {
	dot     version.Dot
	held    bool // by a sibling of its record
	claimed bool // by its clock, which was read before the record
}

// anomalous says whether two copies that differ should not: both clocks claim every
// sibling of both, so that no write is on its way, and yet one of them lacks
// something. It is none that one home has forgotten a dead record before the other.
func anomalous(mine, theirs []claim, mineDead, theirsDead bool) bool {
	for i := range mine {
		if !mine[i].claimed || !theirs[i].claimed {
			return false
		}
	}
	held := func(c claim) bool { return c.held }
	mineHas, theirsHas := slices.ContainsFunc(mine, held), slices.ContainsFunc(theirs, held)
	if !mineHas && theirsDead || !theirsHas && mineDead {
		return false
	}
	return mineHas || theirsHas
}

// claimsOf lines up what both homes hold and claim. answered are the other home's
// claims of this node's dots, then of its own record's; what it left out is not
// claimed.
func claimsOf(mine []version.Dot, clock *store.Clock, theirs *version.Record, answered []bool) (here, there []claim) {
	says := map[version.Dot]bool{}
	own := dotsOf(theirs)
	for i, d := range append(slices.Clone(mine), own...) {
		says[d] = i < len(answered) && answered[i]
	}
	all := append(slices.Clone(mine), own...)
	slices.SortFunc(all, version.Dot.Compare)
	for _, d := range slices.Compact(all) {
		here = append(here, claim{d, slices.Contains(mine, d), clock.Has(d)})
		there = append(there, claim{d, slices.Contains(own, d), says[d]})
	}
	return here, there
}

// judge notes a difference that catch-up should have mended, or one that is left, and
// why.
func (a *pairAudit) judge(p ring.Partition, key []byte, mine *held, clock *store.Clock, theirs *version.Record, got *fetchedKey, left string) {
	here, there := claimsOf(mine.dots, clock, theirs, got.Claims)
	if left == "" && (a.atOnce || !anomalous(here, there, mine.dead, isDead(theirs, a.r.deadBy()))) {
		return
	}
	leaf := version.LeafOf(got.Record)
	sentence := fmt.Sprintf("key %.64q of partition %d: %s; %s", key, p,
		sayCopy(a.r.cfg.Self, mine.leaf, here), sayCopy(a.with, leaf, there))
	if left != "" {
		sentence += "; " + left
	}
	if len(a.out.Anomalies) < anomaliesMax {
		a.out.Anomalies = append(a.out.Anomalies, sentence)
	}
	a.r.anomalies.Add(1)
	a.r.lastAnomaly.Store(&sentence)
	if n, ok := a.r.auditing.notes.first(key, time.Now()); ok {
		a.r.log.Warn("copies differ although both clocks claim what one of them lacks", "anomaly", sentence, "unsaid", n)
	}
}

// sayCopy describes one home's copy.
func sayCopy(id ring.NodeID, leaf version.Digest, claims []claim) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s has ", id.Short())
	if leaf == (version.Digest{}) {
		b.WriteString("no record")
	} else {
		fmt.Fprintf(&b, "%x", leaf)
	}
	for i, c := range claims {
		if i == anomalyDotsShown {
			fmt.Fprintf(&b, ", and %d more", len(claims)-i)
			break
		}
		sep := ","
		if i == 0 {
			sep = ":"
		}
		word, clock := "without", "does not claim it"
		if c.held {
			word = "with"
		}
		if c.claimed {
			clock = "claims it"
		}
		fmt.Fprintf(&b, "%s %s %016x/%d, its clock %s", sep, word, uint64(c.dot.Actor), c.dot.Seq, clock)
	}
	return b.String()
}

// noted remembers which keys were spoken of, so that the log has each once and not
// more than one a second.
type noted struct {
	mu     sync.Mutex // guards what follows
	keys   map[string]struct{}
	last   time.Time
	unsaid int
}

// first says whether the log should have a line about the key, and how many others
// it has none about since the last line.
func (n *noted) first(key []byte, now time.Time) (unsaid int, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, twice := n.keys[string(key)]; twice {
		return 0, false
	}
	if now.Sub(n.last) < anomalyLogEvery {
		n.unsaid++
		return 0, false
	}
	if len(n.keys) >= anomalyKeysMax || n.keys == nil {
		n.keys = map[string]struct{}{}
	}
	n.keys[string(key)] = struct{}{}
	unsaid, n.unsaid, n.last = n.unsaid, 0, now
	return unsaid, true
}
