package e2e

import (
	"strings"
	"syscall"
	"testing"
)

// TestARollingRestartRefusesNothing: each server in turn ends, by kith drain and by
// SIGTERM, and is started again, while clients write and read at quorum: nobody is
// refused, and no outcome is unknown.
func TestARollingRestartRefusesNothing(t *testing.T) {
	c := newCluster(t, 3, "--partitions", "64")
	c.startAll()
	k := c.loaded(c.dialAll(), 300, 100)
	k.start(8)
	k.goesOn(100)
	for i, s := range c.servers {
		k.during("the restart of " + s.name)
		if i%2 == 0 {
			if out := c.must("drain", s.name); !strings.Contains(out, "has drained and ended") {
				t.Errorf("drain says %q", out)
			}
		} else {
			c.signal(i, syscall.SIGTERM)
		}
		<-s.exited
		if code := s.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s ends with status %d", s.name, code)
		}
		k.goesOn(100)
		c.start(i)
		c.waitReady()
		k.goesOn(100)
	}
	k.end(true)
}

// TestAServerIsStartedAgainAtOnceAfterItsDrain: what kith drain says has ended gives its
// directory to the next one, however busy it was.
func TestAServerIsStartedAgainAtOnceAfterItsDrain(t *testing.T) {
	c := newCluster(t, 3, "--partitions", "16")
	c.startAll()
	k := c.loaded(c.dialAll(), 300, 100)
	k.start(2)
	for i, s := range c.servers {
		k.goesOn(100)
		c.must("drain", s.name)
		c.start(i)
		c.waitReady()
	}
	k.end(true)
}

// TestDrainSaysOfNobodyThatItHasEndedWhoHasNot: a server that is stopped in its tracks
// does not answer, and has not ended.
func TestDrainSaysOfNobodyThatItHasEndedWhoHasNot(t *testing.T) {
	c := newCluster(t, 3, "--partitions", "16")
	c.startAll()
	c.signal(1, syscall.SIGSTOP)
	r := c.kith("drain", c.servers[1].name, "--limit", "100ms", "--timeout", "1s")
	if r.code != 6 && r.code != 124 || strings.Contains(r.stdout, "ended") {
		t.Errorf("exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	c.signal(1, syscall.SIGCONT)
	c.must("drain", c.servers[1].name) // which it may be doing since
	<-c.servers[1].exited
	if code := c.servers[1].cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("it ends with status %d", code)
	}
}
