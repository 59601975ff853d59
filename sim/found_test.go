package sim_test

import (
	"testing"
	"time"

	"github.com/kithdb/kith/sim"
)

// Seeds that have found something are played for good. What a seed draws changes
// with the code: what it found is held by a test of its own as well.
func TestSeedsThatHaveFoundSomething(t *testing.T) {
	for i, found := range []struct {
		seed   uint64
		length time.Duration
		// changes says that operators change the ring.
		changes bool
		what    string
	}{
		{118, 20 * time.Second, false, "a store whose disk failed again while it was reopened panicked when it was closed"},
		{1194, 20 * time.Second, false, "a node whose ID was on a rotten block came back as another one"},
		{28, 2 * time.Minute, false, "a replacement that heard an old ring record gave up for good"},
		{1513, 30 * time.Second, false, "a home that missed a purge kept what all others had forgotten"},
		{5071, 30 * time.Second, false, "a late write brought back what had stood beside it"},
		{2098, 15 * time.Second, false, "a table of one block that rotted was never given up"},
		{1361, 20 * time.Second, true, "rot brought back what was dropped, and it stayed"},
		{12147, 20 * time.Second, true, "what a node adopted while it ended was not known to the checker"},
		{59600, 20 * time.Second, true, "what was decided was known to a leaver alone, who stayed away"},
		{59906, 20 * time.Second, true, "the vote on the ring was left to a lost disk and a rotten one"},
	} {
		if i > 0 && !sim.Replays {
			break // with the race detector a seed is another run
		}
		o, story := sim.Swarm(found.seed, found.length)
		story.Changes = story.Changes || found.changes
		if r := sim.Run(o, story); r.Err != nil {
			t.Errorf("seed %d, which once found that %s: %v\n%s", found.seed, found.what, r.Err, r.Log)
		}
	}
}
