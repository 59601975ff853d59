package kv_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// inspect asks node i about a key.
func (w *world) inspect(i int, key string) *api.InspectResponse {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	seen, err := api.Inspect.Call(ctx, w.client, rpc.Peer{Addr: w.nodes[i].peer.Addr}, &api.InspectRequest{Key: []byte(key)})
	if err != nil {
		w.t.Fatalf("inspect %s through %s: %v", key, w.nodes[i].name, err)
	}
	return seen
}

func TestInspectShowsEveryHomesCopyThroughAnyNode(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		if _, err := w.put(0, api.PutRequest{Key: []byte("k"), Value: []byte("value"), TTL: 60_000, W: api.All}); err != nil {
			t.Fatal(err)
		}
		homes := w.homesIn(w.record, "k")
		for via := range w.nodes {
			seen := w.inspect(via, "k")
			p := w.record.PartitionOf([]byte("k"))
			if !seen.Equal || seen.Partition != uint16(p) || seen.Slot != ring.SlotOf([]byte("k")) || seen.Epoch != 2 || len(seen.Copies) != 3 {
				t.Fatalf("through node %d: %+v", via, seen)
			}
			if !slices.Equal(seen.Why, []string{"all 3 homes hold the same"}) {
				t.Errorf("%q", seen.Why)
			}
			for i, c := range seen.Copies {
				own := w.own(homes[i], "k")
				s := c.Siblings[0]
				if c.Member != nodeID(homes[i]).String() || c.Name != w.nodes[homes[i]].name || !c.Found || !c.CountsForRead ||
					s.Actor != fmt.Sprintf("%016x", uint64(own.Siblings[0].Dot.Actor)) || s.Seq != own.Siblings[0].Dot.Seq || s.Size != 5 ||
					s.Expiry != own.Siblings[0].Expiry || s.Expired || s.Tombstone || s.Written != own.Siblings[0].Stamp.Time().UnixMilli() {
					t.Errorf("%+v, stored is %+v", c, own)
				}
				if len(c.Seen) != 1 || c.Seen[0] != s.DotInfo || !slices.Equal(c.Incorporated, []api.DotInfo{s.DotInfo}) || c.Digest != seen.Copies[0].Digest {
					t.Errorf("%+v", c)
				}
			}
		}
		time.Sleep(2 * time.Minute)
		if seen := w.inspect(4, "k"); !seen.Copies[0].Siblings[0].Expired || !strings.Contains(seen.Why[0], "its value expired at") {
			t.Errorf("%+v", seen)
		}
		if seen := w.inspect(4, "nothing"); !seen.Equal || seen.Copies[0].Found || !slices.Equal(seen.Why, []string{"no home has a value of this key"}) {
			t.Errorf("%+v", seen)
		}
	})
}

func TestInspectSaysWhoLacksWhat(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.apart("k") // node 0 has replaced "old" by "new", alone
		for via := range w.nodes {
			seen := w.inspect(via, "k")
			if seen.Equal {
				t.Error("they are told to be equal")
			}
			var lacks, stale []string
			for _, s := range seen.Why {
				switch {
				case strings.Contains(s, "lacks the newest write") && strings.HasSuffix(s, "its clock does not have it; catch-up from n1 will bring it"):
					lacks = append(lacks, s[:2])
				case strings.Contains(s, "which n1 has replaced: it goes when dot"):
					stale = append(stale, s[:2])
				default:
					t.Errorf("%s", s)
				}
			}
			slices.Sort(lacks)
			slices.Sort(stale)
			if !slices.Equal(lacks, []string{"n2", "n3"}) || !slices.Equal(stale, lacks) {
				t.Errorf("%q", seen.Why)
			}
		}
		if w.own(1, "k").Siblings[0].Value[0] != 'o' {
			t.Error("it was repaired by being looked at")
		}
	})
}

func TestInspectNamesTheHomesThatCannotBeAsked(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		w.mustPut(0, "k", "v", nil)
		time.Sleep(time.Second)
		w.damage(1)
		w.halt(2)
		seen := w.inspect(0, "k")
		if seen.Equal || len(seen.Copies) != 3 {
			t.Fatalf("%+v", seen)
		}
		for i := range 3 {
			c := seen.Copies[slices.IndexFunc(seen.Copies, func(c api.CopyInfo) bool { return c.Member == nodeID(i).String() })]
			if (c.Error != "") != (i == 2) || c.CountsForRead != (i == 0) {
				t.Errorf("node %d: %+v", i, c)
			}
		}
		all := strings.Join(seen.Why, "\n")
		if !strings.Contains(all, "n3 does not show its copy: ") || !strings.Contains(all, "n2 does not count for reads now") {
			t.Errorf("%s", all)
		}
	})
}

func TestInspectRefusesWhatIsNoKey(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		for size, want := range map[int]error{0: api.ErrBadRequest, 4097: api.ErrTooLarge} {
			_, err := api.Inspect.Call(context.Background(), w.client, rpc.Peer{Addr: w.nodes[0].peer.Addr}, &api.InspectRequest{Key: make([]byte, size)})
			if !errors.Is(err, want) {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
	})
}
