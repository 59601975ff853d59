package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// expect runs a command that has to end with a status and say some things.
func (c *cluster) expect(code int, says []string, args ...string) result {
	c.t.Helper()
	r := c.kith(args...)
	if r.code != code {
		c.t.Errorf("kith %v: exit status %d, want %d\n%s%s", args, r.code, code, r.stdout, r.stderr)
	}
	for _, say := range says {
		if !strings.Contains(r.stdout+r.stderr, say) {
			c.t.Errorf("kith %v does not say %q\n%s%s", args, say, r.stdout, r.stderr)
		}
	}
	return r
}

func (c *cluster) clusterID() string {
	c.t.Helper()
	var doc struct {
		ClusterID string `json:"cluster_id"`
	}
	if err := json.Unmarshal([]byte(c.must("status", "--format", "json")), &doc); err != nil || doc.ClusterID == "" {
		c.t.Fatalf("status without the cluster's ID: %v", err)
	}
	return doc.ClusterID
}

// down kills servers, of whom nobody asks anything then.
func (c *cluster) down(servers ...int) {
	c.t.Helper()
	var names []string
	for _, i := range servers {
		c.kill(i)
		c.servers[i].left = true
		names = append(names, c.servers[i].name)
	}
	c.waitDown(0, names...)
}

func (c *cluster) back(i int) {
	c.t.Helper()
	c.servers[i].left = false
	c.start(i)
}

// TestLostKeepersAreForcedOut: two of three keepers are gone. The refusal of a change names
// them, doctor says what to do, and the survivor forces the ring, with all that it takes to
// mean it. One of the lost comes back as a member, and keeps again when it is readmitted.
func TestLostKeepersAreForcedOut(t *testing.T) {
	c := newCluster(t, 3, "--partitions", "16")
	c.startAll()
	k := c.loaded(c.dialAll(), 200, 100)
	c.expect(0, []string{"ok    keepers: 3 of 3", "ok    dial: 3 of 3"}, "doctor")
	id := c.clusterID()
	force := func(names string, more ...string) []string {
		return append([]string{"ring", "force-epoch", "--survivors", names}, more...)
	}
	c.expect(6, []string{"not needed", "nothing was changed"}, force("n1,n2", "--yes", "--cluster-id", id)...)
	c.expect(6, []string{"lives, it is reached by"}, force("n1", "--yes", "--cluster-id", id)...)
	c.down(1, 2)
	c.expect(6, []string{"nothing was changed", "2 of the 3 members that vote", "n2, n3", "kith ring force-epoch --survivors n1"}, "weight", "n1", "2", "--timeout", "10s")
	c.expect(9, []string{"FAIL  keepers: 1 of 3", "missing: n2, n3", "kith ring force-epoch --survivors n1"}, "doctor")
	c.expect(0, nil, "get", string(numbered(1)), "--r", "one")
	c.expect(2, []string{"there is nobody to ask", "SPLIT IN TWO"}, force("n1")...)
	c.expect(2, []string{"--cluster-id"}, force("n1", "--yes")...)
	c.expect(2, []string{"this is cluster " + id}, force("n1", "--yes", "--cluster-id", strings.Repeat("0", 32))...)
	c.expect(2, []string{"no member is called"}, force("n9", "--yes", "--cluster-id", id)...)
	c.expect(2, []string{"twice"}, force("n1,n1", "--yes", "--cluster-id", id)...)
	c.expect(6, []string{"n2"}, force("n1,n2", "--yes", "--cluster-id", id, "--timeout", "10s")...)
	c.expect(0, []string{"FORCED", "with the survivors n1"}, force("n1", "--yes", "--cluster-id", id)...)
	c.expect(0, []string{"FORCED", "with the survivors n1"}, "ring", "history")
	c.expect(0, []string{"stands already"}, force("n1", "--yes", "--cluster-id", id)...)
	c.expect(0, nil, "weight", "n1", "2")
	c.expect(0, nil, "weight", "n1", "1")
	c.back(1)
	c.back(2)
	c.waitReady()
	c.expect(9, []string{"n2", "was not among the survivors", "kith join n2"}, "doctor")
	c.expect(0, []string{"may be a keeper again"}, "join", "n2")
	c.expect(0, []string{"may be a keeper again", "keepers are"}, "join", "n3")
	c.settles(time.Minute, "n1", "n2", "n3")
	c.expect(0, []string{"ok    keepers: 3 of 3"}, "doctor")
	c.hasAll(k)
}

// TestTheOnlyCopyIsSaidAndGivenUpByHand: with one home for each key, a dead machine is
// reported as what it is, and given up only by somebody who accepts the loss.
func TestTheOnlyCopyIsSaidAndGivenUpByHand(t *testing.T) {
	c := newCluster(t, 2, "--replicas", "1", "--partitions", "16")
	c.startAll()
	const keys = 60
	for i := range keys {
		c.must("put", fmt.Sprint("key-", i), "v")
	}
	c.expect(0, []string{"ok    copies: replicas is 1"}, "doctor")
	c.down(1)
	c.expect(0, []string{"NOT READY", "no other home of 8 of 16 partitions can", "neither read nor written"}, "status")
	c.expect(9, []string{"FAIL  copies: of 8 of 16 partitions no copy can be reached", "n2"}, "doctor")
	c.expect(6, []string{"the only copy of 8 of 16 partitions", "--data-lost"}, "remove", "n2", "--yes")
	c.expect(0, []string{"n2", "lost"}, "remove", "n2", "--data-lost", "--yes", "--wait", "--timeout", "60s")
	there := 0
	for i := range keys {
		r := c.kith("get", fmt.Sprint("key-", i))
		switch {
		case r.code == 0 && strings.TrimSpace(r.stdout) == "v":
			there++
		case r.code != 3:
			t.Errorf("key-%d: exit status %d\n%s%s", i, r.code, r.stdout, r.stderr)
		}
		c.must("put", fmt.Sprint("key-", i), "new")
	}
	if there == 0 || there == keys {
		t.Errorf("%d of %d keys are there", there, keys)
	}
	c.expect(0, nil, "status", "--wait", "ready", "--timeout", "30s")
}
