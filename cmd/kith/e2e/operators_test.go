package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// changeDoc is what the tests read of a change's --format json.
type changeDoc struct {
	Epoch   uint64 `json:"epoch"`
	Changed bool   `json:"changed"`
}

// atOnce runs commands at the same moment, each through another server, and gives how
// they ended.
func (c *cluster) atOnce(commands ...[]string) []result {
	out := make([]result, len(commands))
	var all sync.WaitGroup
	for i, args := range commands {
		all.Go(func() {
			out[i] = c.kith(append(slices.Clone(args), "--format", "json", "--addr", c.servers[i].addr)...)
		})
	}
	all.Wait()
	return out
}

// outcomeOf reads what a change said that was done.
func (c *cluster) outcomeOf(r result) changeDoc {
	c.t.Helper()
	var doc changeDoc
	if err := json.Unmarshal([]byte(r.stdout), &doc); r.code != 0 || err != nil {
		c.t.Fatalf("exit status %d, %v\n%s%s", r.code, err, r.stdout, r.stderr)
	}
	return doc
}

// TestTwoOperatorsWantTheOpposite: both are told the truth, and what the later record
// says is what comes.
func TestTwoOperatorsWantTheOpposite(t *testing.T) {
	c := newCluster(t, 4, "--partitions", "16")
	c.startAll()
	k := c.loaded(c.dialAll(), 2_000, 100)
	k.start(2)
	limit := 2 * time.Minute

	// Each of two may leave, but not both: three homes need three members.
	ends := c.atOnce([]string{"leave", "n3"}, []string{"leave", "n4"})
	stays, goes := 0, 0
	for i, r := range ends {
		switch {
		case r.code == 0 && c.outcomeOf(r).Changed:
			goes = i + 2
		case r.code == 6 && strings.Contains(r.stderr, "nothing was changed"):
			stays = i + 2
		default:
			t.Fatalf("leave n%d: exit status %d\n%s%s", i+3, r.code, r.stdout, r.stderr)
		}
	}
	if goes == 0 || stays == 0 {
		t.Fatalf("want one that goes and one that stays: %+v", ends)
	}
	t.Logf("%s goes, %s stays: %s", c.servers[goes].name, c.servers[stays].name, ends[stays-2].stderr)
	c.waitGone(goes)
	c.settles(limit, "n1", "n2", c.servers[stays].name)

	// One has a member leave, and the other one wants it to stay.
	i := c.add()
	c.start(i)
	name := c.servers[i].name
	d := c.settles(limit, "n1", "n2", c.servers[stays].name, name)
	ends = c.atOnce([]string{"leave", name}, []string{"join", name})
	leave, join := c.outcomeOf(ends[0]), c.outcomeOf(ends[1])
	t.Logf("leave: %+v; join: %+v; before: epoch %d", leave, join, d.Epoch)
	if !leave.Changed {
		t.Errorf("it is told to leave, and that had been so already: %+v", leave)
	}
	if join.Changed && join.Epoch > leave.Epoch {
		c.settles(limit, "n1", "n2", c.servers[stays].name, name)
	} else {
		c.waitGone(i)
		c.settles(limit, "n1", "n2", c.servers[stays].name)
	}
	history := c.must("ring", "history")
	if want := fmt.Sprintf("%s ", name); !strings.Contains(history, want) || !strings.Contains(history, "was active and is leaving") {
		t.Errorf("history does not tell of it:\n%s", history)
	}
	k.end(true)
}
