package e2e

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// ends waits until a server has ended well.
func (c *cluster) ends(i int) {
	c.t.Helper()
	<-c.servers[i].exited
	if code := c.servers[i].cmd.ProcessState.ExitCode(); code != 0 {
		c.t.Errorf("%s ends with status %d", c.servers[i].name, code)
	}
}

// TestDrainTakesNoHarmFromItsCallers: nobody, somebody dead, twice at once, within a
// millisecond, one on standby, one that catches up, and both ends of moves: who is drained
// ends well, who cannot be is named, and nothing acknowledged is lost.
func TestDrainTakesNoHarmFromItsCallers(t *testing.T) {
	c := newCluster(t, 3, "--partitions", "32")
	c.startAll()
	k := c.loaded(c.dialAll(), 2000, 1000)
	again := func(i int) {
		t.Helper()
		c.start(i)
		c.waitReady()
	}
	k.start(4)
	k.during("a bogus name")
	c.expect(2, []string{"no such member"}, "drain", "n9")
	c.expect(2, []string{"--limit"}, "drain", "n2", "--limit", "0s")
	c.expect(2, []string{"--limit"}, "drain", "n2", "--limit", "2h")

	k.during("two drains at once")
	var both sync.WaitGroup
	results := make([]result, 2)
	for i := range results {
		both.Go(func() { results[i] = c.kith("drain", "n2") })
	}
	both.Wait()
	c.ends(1)
	drained := 0
	for _, r := range results {
		switch {
		case r.code == 0 && strings.Contains(r.stdout, "has drained and ended"):
			drained++
		case r.code == 6 && strings.Contains(r.stderr, "unreachable"): // it came when all was over
		default:
			t.Errorf("one of two drains at once: exit status %d\n%s%s", r.code, r.stdout, r.stderr)
		}
	}
	if drained == 0 {
		t.Error("neither of two drains at once has drained it")
	}
	k.during("a drain of the dead")
	c.waitDown(0, "n2")
	if r := c.kith("drain", "n2", "--timeout", "2s"); r.code != 6 || strings.Contains(r.stdout, "has drained") {
		t.Errorf("of a dead server: exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}

	// It catches up with what it has missed.
	k.goesOn(500)
	k.during("a drain while it catches up")
	c.start(1)
	until(t, "n2 answers", time.Minute, func() bool { return c.kith("status", "--addr", c.servers[1].addr, "--timeout", "1s").code == 0 })
	c.expect(0, []string{"has drained and ended"}, "drain", "n2")
	c.ends(1)
	again(1)

	k.during("a drain within a millisecond")
	c.expect(0, []string{"has drained and ended"}, "drain", "n3", "--limit", "1ms")
	c.ends(2)
	again(2)

	// A standby, and then the target and a source of moves.
	k.during("a drain of a standby")
	i := c.add("--standby")
	c.start(i)
	c.waitReady()
	c.expect(0, []string{"has drained and ended"}, "drain", "n4")
	c.ends(i)
	again(i)
	k.during("drains of both ends of moves")
	c.must("join", "n4")
	c.expect(0, []string{"has drained and ended"}, "drain", "n4")
	c.ends(i)
	c.expect(0, []string{"has drained and ended"}, "drain", "n1")
	c.ends(0)
	c.start(i)
	again(0)
	c.settles(time.Minute, "n1", "n2", "n3", "n4")
	k.end(false)
}
