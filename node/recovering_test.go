package node_test

import "testing"

// A node that came back counts for no read until it has met its peers, or waited
// for them, and its status says so.
func TestStatusSaysThatANodeIsRecoveringUntilItCountsForReads(t *testing.T) {
	c := found(t, 2, 2)
	for _, n := range c.nodes {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	n := c.start(config(c.dir, 1)) // its peer stays away
	state := func() string {
		for _, m := range c.status(n).Members {
			if m.ID == n.ID().String() {
				return m.State
			}
		}
		return "absent"
	}
	if got := state(); got != "recovering" {
		t.Errorf("a node that has just started alone is %q", got)
	}
	until(t, "it is ready", func() bool { return state() == "ready" })
}
