package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// longAwayPartitions are so few that the log of each is soon full, and enough
	// for every server to be a home of some.
	longAwayPartitions = 4
	// logReach is more writes of one partition than a server's log of them keeps:
	// 16 blocks, each of 256 and what comes with them in one batch.
	logReach = 12_000
)

// TestAServerThatWasAwayForLongIsEqualAgainByScan: the others have taken more writes
// meanwhile than their logs reach back. What it has missed is found by scans, which
// its status counts; every home's own copy is right, without anybody's help, and
// nothing that was deleted comes back.
func TestAServerThatWasAwayForLongIsEqualAgainByScan(t *testing.T) {
	c, w, cl, n := filled(t, "--partitions", fmt.Sprint(longAwayPartitions))
	c.signal(4, syscall.SIGTERM)
	<-c.servers[4].exited
	c.waitDown(0, "n5")
	before := maps.Clone(w)
	w.change(t, cl, n)
	rounds := 0
	for wrote := 0; wrote < longAwayPartitions*logReach; wrote += n / 2 {
		rounds++
		w.write(t, cl, values(n-n/2, n, "round "+strings.Repeat("·", rounds)))
	}
	maps.DeleteFunc(before, func(k string, v []byte) bool { return !bytes.Equal(w[k], v) })
	c.start(4)
	begun := time.Now()
	c.waitReady()
	m := c.memberOf(0, 4)
	t.Logf("ready after %v and %d scans; it has pulled %d keys, %d bytes", time.Since(begun), m.Repair.Scans, m.Repair.PulledKeys, m.Repair.PulledBytes)
	if m.Repair.Scans == 0 {
		t.Error("nothing was found by a scan: the logs reach back to before it went")
	}
	missed := 0 // keys, however often each was written
	for _, k := range c.homes(w)[4] {
		if _, kept := before[string(k)]; !kept {
			missed++
		}
	}
	if m.Repair.PulledKeys > int64(missed)*3/2 {
		t.Errorf("it has pulled %d keys, and has missed writes to %d", m.Repair.PulledKeys, missed)
	}
	c.equal(w, time.Minute)
	if sum := c.audited(); sum.Differences != 0 || sum.Skipped != 0 || len(sum.Anomalies) != 0 {
		t.Errorf("an audit finds %d keys that differ, and has skipped %d partitions: %v %v", sum.Differences, sum.Skipped, sum.Anomalies, sum.Problems)
	}
	if r := c.kith("export"); r.code != 0 || strings.Count(r.stdout, "\n") != n {
		t.Errorf("export: exit status %d, %d keys, want %d", r.code, strings.Count(r.stdout, "\n"), n)
	}
}
