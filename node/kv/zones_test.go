package kv_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/quorum"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/network"
)

// in are the nodes of a zone; homesOf those of them that are homes of a key, the others
// of the zone behind.
func (w *world) in(zone string) (nodes []int) {
	for i, m := range w.members {
		if m.Zone == zone {
			nodes = append(nodes, i)
		}
	}
	return nodes
}

func (w *world) homesInZone(key, zone string) (homes, others []int) {
	all, _ := w.homes(key)
	for _, i := range w.in(zone) {
		if slices.Contains(all, i) {
			homes = append(homes, i)
		} else {
			others = append(others, i)
		}
	}
	return homes, others
}

// part cuts all nodes of two zones from each other.
func (w *world) part(a, b string) {
	for _, i := range w.in(a) {
		for _, j := range w.in(b) {
			w.net.Cut(w.nodes[i].host.Name(), w.nodes[j].host.Name())
		}
	}
}

// away crashes the hosts of a zone.
func (w *world) away(zone string) {
	for _, i := range w.in(zone) {
		w.nodes[i].host.Crash()
	}
	time.Sleep(5 * time.Second) // until that is known
}

// unmetIn is the zone that an error names, with what was needed there and had.
func unmetIn(err error) string {
	var unmet *quorum.UnmetError
	if !errors.As(err, &unmet) {
		return fmt.Sprint("no unmet error: ", err)
	}
	return fmt.Sprintf("%s: %d of %d, need %d", unmet.Zone, unmet.Got, unmet.Slots, unmet.Need)
}

// Three homes in three zones: a whole zone may be lost.
func TestAWholeZoneLostLeavesQuorum(t *testing.T) {
	inZones(t, 1, []string{"a", "b", "c", "a", "b", "c"}, 3, func(w *world) {
		for k := range 20 {
			key := fmt.Sprint("key-", k)
			for _, zone := range []string{"a", "b", "c"} {
				if homes, _ := w.homesInZone(key, zone); len(homes) != 1 {
					t.Fatalf("%s has %d homes in zone %s", key, len(homes), zone)
				}
			}
			w.mustPut(k%6, key, "before", nil)
		}
		time.Sleep(time.Second)
		w.away("c")
		for k := range 20 {
			key := fmt.Sprint("key-", k)
			for n, via := range []int{0, 1, 3, 4} {
				resp := w.mustPut(via, key, fmt.Sprint("without c ", n), nil)
				if resp.Receipt.Zones != nil || resp.Receipt.Sloppy {
					t.Errorf("receipt %+v", resp.Receipt)
				}
				time.Sleep(10 * time.Millisecond)
				if got := w.values(via, key, api.Quorum); !maps.Equal(got, set(fmt.Sprint("without c ", n))) {
					t.Errorf("%s through node %d: %v", key, via, got)
				}
			}
			_, err := w.put(0, api.PutRequest{Key: []byte(key), Value: []byte("x"), W: api.EachQuorum})
			if got := unmetIn(err); !errors.Is(err, api.ErrUnavailable) || got != "c: 0 of 1, need 1" {
				t.Errorf("each-quorum: %v: %s", err, got)
			}
			_, err = w.getIn(0, "c", key, api.LocalQuorum)
			if got := unmetIn(err); !errors.Is(err, api.ErrUnavailable) || got != "c: 0 of 1, need 1" {
				t.Errorf("local-quorum in c: %v: %s", err, got)
			}
			if resp, err := w.get(0, key, api.LocalQuorum); err != nil || len(resp.Receipt.Answered) != 1 {
				t.Errorf("local-quorum in a: %+v, %v", resp, err)
			}
		}
	})
}

// Two zones that cannot reach each other go on, each at its own quorum; what both wrote
// stands side by side afterwards.
func TestTwoZonesGoOnWithoutEachOther(t *testing.T) {
	inZones(t, 1, []string{"a", "a", "a", "b", "b", "b"}, 4, func(w *world) {
		w.part("a", "b")
		time.Sleep(5 * time.Second)
		for k := range 20 {
			key := fmt.Sprint("key-", k)
			for _, zone := range []string{"a", "b"} {
				if homes, _ := w.homesInZone(key, zone); len(homes) != 2 {
					t.Fatalf("%s has %d homes in zone %s", key, len(homes), zone)
				}
				for n, via := range w.in(zone) {
					value := fmt.Sprint("of ", zone, n)
					resp, err := w.put(via, api.PutRequest{Key: []byte(key), Value: []byte(value), W: api.LocalQuorum})
					if err != nil {
						t.Fatalf("%s through node %d: %v", key, via, err)
					}
					if want := (api.ZoneReceipt{Zone: zone, Need: 2, Got: 2, Homes: 2}); len(resp.Receipt.Zones) != 1 || resp.Receipt.Zones[0] != want || resp.Receipt.Need != 2 {
						t.Errorf("receipt %+v, want %+v", resp.Receipt, want)
					}
					for _, reader := range w.in(zone) {
						if got := w.values(reader, key, api.LocalQuorum); !maps.Equal(got, set(value)) {
							t.Errorf("%s shows %v in zone %s", key, got, zone)
						}
					}
					for _, level := range []api.Level{api.Quorum, api.EachQuorum, 3} {
						if _, err := w.get(via, key, level); !errors.Is(err, api.ErrUnavailable) {
							t.Errorf("R=%d: %v", level, err)
						}
					}
				}
			}
		}
		if resp, err := w.put(0, api.PutRequest{Key: []byte("both"), Value: []byte("x"), W: api.EachQuorum}); err == nil {
			t.Errorf("each-quorum: %+v", resp)
		}
		w.net.Heal()
		time.Sleep(10 * time.Second)
		for k := range 20 {
			key := fmt.Sprint("key-", k)
			for _, level := range []api.Level{api.All, api.LocalQuorum, api.EachQuorum} {
				if got := w.values(k%6, key, level); !maps.Equal(got, set("of a2", "of b2")) {
					t.Errorf("%s at %d shows %v", key, level, got)
				}
			}
		}
	})
}

// Six homes in two zones, three in each: each-quorum bears the loss of one in each, and
// what it has acknowledged is read at local-quorum in either zone.
func TestEachQuorumIsReadInEveryZone(t *testing.T) {
	inZones(t, 1, []string{"a", "a", "a", "b", "b", "b"}, 6, func(w *world) {
		w.nodes[2].host.Crash()
		w.nodes[5].host.Crash()
		time.Sleep(5 * time.Second)
		for n, via := range []int{0, 1, 3, 4} {
			value := fmt.Sprint("v", n)
			resp, err := w.put(via, api.PutRequest{Key: []byte("k"), Value: []byte(value), W: api.EachQuorum})
			if err != nil {
				t.Fatal(err)
			}
			r := resp.Receipt
			if r.Need != 4 || len(r.Zones) != 2 || len(r.Answered) < 4 {
				t.Errorf("receipt %+v", r)
			}
			for _, z := range r.Zones {
				if z.Need != 2 || z.Got != 2 || z.Homes != 3 {
					t.Errorf("receipt %+v", r)
				}
			}
			for _, reader := range []int{0, 1, 3, 4} {
				for _, level := range []api.Level{api.LocalQuorum, api.EachQuorum, api.Quorum} {
					if got := w.values(reader, "k", level); !maps.Equal(got, set(value)) {
						t.Errorf("after %s: R=%d through node %d shows %v", value, level, reader, got)
					}
				}
			}
		}
		w.nodes[4].host.Crash()
		time.Sleep(5 * time.Second)
		before := w.own(0, "k")
		_, err := w.put(0, api.PutRequest{Key: []byte("k"), Value: []byte("x"), W: api.EachQuorum})
		if got := unmetIn(err); !errors.Is(err, api.ErrUnavailable) || errors.Is(err, api.ErrUnknown) || got != "b: 1 of 3, need 2" {
			t.Errorf("with one home in b: %v: %s", err, got)
		}
		if !w.own(0, "k").Equal(before) {
			t.Error("a refused put was minted")
		}
		if _, err := w.put(3, api.PutRequest{Key: []byte("k"), Value: []byte("x"), W: api.LocalQuorum, Zone: "a"}); err != nil {
			t.Errorf("for somebody in a, through b: %v", err)
		}
	})
}

// A quorum in a zone asks nobody elsewhere, and other reads ask near homes first.
func TestReadsAreServedFromTheNearZone(t *testing.T) {
	inZones(t, 1, []string{"a", "a", "a", "b", "b", "b"}, 4, func(w *world) {
		far := network.Link{Latency: 50 * time.Millisecond}
		for _, i := range w.in("a") {
			for _, j := range w.in("b") {
				w.net.SetLink(w.nodes[i].host.Name(), w.nodes[j].host.Name(), far)
				w.net.SetLink(w.nodes[j].host.Name(), w.nodes[i].host.Name(), far)
			}
		}
		for k := range 20 {
			w.mustPut(k%6, fmt.Sprint("key-", k), "v", nil)
		}
		time.Sleep(time.Second)
		for k := range 20 {
			key := fmt.Sprint("key-", k)
			via := k % 6
			zone := w.members[via].Zone
			near, _ := w.homesInZone(key, zone)
			for _, level := range []api.Level{api.LocalQuorum, 2, api.One} {
				start := time.Now()
				resp, err := w.get(via, key, level)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took > 40*time.Millisecond {
					t.Errorf("R=%d took %v", level, took)
				}
				for _, id := range resp.Receipt.Answered {
					if !slices.ContainsFunc(near, func(i int) bool { return nodeID(i) == id }) {
						t.Errorf("R=%d in zone %s: %v have answered, near are %v", level, zone, resp.Receipt.Answered, near)
					}
				}
			}
			start := time.Now()
			if _, err := w.put(via, api.PutRequest{Key: []byte(key), Value: []byte("near"), W: api.LocalQuorum}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 40*time.Millisecond {
				t.Errorf("a put took %v", took)
			}
			if i := w.minter(key); !slices.Contains(near, i) {
				t.Errorf("a put through node %d was minted by node %d, near are %v", via, i, near)
			}
		}
	})
}

// Whose zone counts: the one that the request names, through whomever it goes.
func TestTheCallersZoneGoesWithTheRequest(t *testing.T) {
	inZones(t, 1, []string{"a", "a", "a", "b", "b", "b"}, 4, func(w *world) {
		near, others := w.homesInZone("k", "a")
		far, _ := w.homesInZone("k", "b")
		// The coordinator, no home, reaches homes of the other zone only.
		for _, i := range near {
			w.net.Cut(w.nodes[others[0]].host.Name(), w.nodes[i].host.Name())
		}
		for range 3 { // until that is known there
			if resp, err := w.get(others[0], "k", api.All); err == nil {
				t.Fatalf("through a cut: %+v", resp)
			}
		}
		resp, err := w.put(others[0], api.PutRequest{Key: []byte("k"), Value: []byte("v"), W: api.LocalQuorum})
		if err != nil {
			t.Fatal(err)
		}
		if r := resp.Receipt; !slices.ContainsFunc(far, func(i int) bool { return nodeID(i) == r.Coordinator }) || len(r.Zones) != 1 || r.Zones[0].Zone != "a" {
			t.Errorf("receipt %+v", r)
		}
		w.net.Heal()
		time.Sleep(10 * time.Second)
		for via := range w.nodes {
			for zone, homes := range map[string][]int{"a": near, "b": far} {
				resp, err := w.getIn(via, zone, "k", api.LocalQuorum)
				if err != nil {
					t.Fatal(err)
				}
				if r := resp.Receipt; len(r.Answered) != 2 || !slices.Contains(r.Answered, nodeID(homes[0])) || !slices.Contains(r.Answered, nodeID(homes[1])) ||
					len(r.Zones) != 1 || r.Zones[0] != (api.ZoneReceipt{Zone: zone, Need: 2, Got: 2, Homes: 2}) {
					t.Errorf("for %s through node %d: %+v", zone, via, r)
				}
				items := w.scanAll(via, api.ScanRequest{Partition: uint16(w.record.PartitionOf([]byte("k"))), R: api.LocalQuorum, Zone: zone})
				if items["k"] != "v" {
					t.Errorf("a scan for %s through node %d: %v", zone, via, items)
				}
			}
		}
	})
}

// Levels in zones that make no sense are refused, and say why.
func TestMeaninglessQuorumsInZonesAreRefused(t *testing.T) {
	inZones(t, 1, []string{"a", "a", "b", "b", ""}, 2, func(w *world) {
		key := w.keyWhere(func(key string) bool {
			a, _ := w.homesInZone(key, "a")
			b, _ := w.homesInZone(key, "b")
			return len(a) == 1 && len(b) == 1
		})
		refused := func(what string, err error, words string) {
			t.Helper()
			if !errors.Is(err, api.ErrBadRequest) || !strings.Contains(err.Error(), words) {
				t.Errorf("%s: %v", what, err)
			}
		}
		long := strings.Repeat("z", ring.NameMax+1)
		for what, c := range map[string]struct {
			via         int
			zone, words string
		}{
			"a zone that nobody is in":  {0, "mars", `in zone "mars", where the partition has no home`},
			"a node without a zone":     {4, "", `such as "a"`},
			"the zone of no home":       {0, long, "a zone has up to 64"},
			"a zone far too long for b": {2, long + long, "a zone has up to 64"},
		} {
			_, err := w.getIn(c.via, c.zone, key, api.LocalQuorum)
			refused(what+", get", err, c.words)
			_, err = w.put(c.via, api.PutRequest{Key: []byte(key), Value: []byte("v"), W: api.LocalQuorum, Zone: c.zone})
			refused(what+", put", err, c.words)
		}
		for _, level := range []api.Level{api.LocalQuorum, api.EachQuorum} {
			_, err := w.put(0, api.PutRequest{Key: []byte(key), Value: []byte("v"), W: level, Sloppy: true})
			refused("a sloppy quorum in a zone", err, "sloppy")
		}
		if _, err := w.getIn(4, "b", key, api.LocalQuorum); err != nil {
			t.Errorf("a node without a zone, for somebody in b: %v", err)
		}
	})
}

// Repair and hedging keep to the zone: what a quorum in a zone shows is at a quorum
// there before it is answered, and who hangs is made up for by another one there.
func TestRepairInAZone(t *testing.T) {
	inZones(t, 1, []string{"a", "a", "a", "b", "b", "b"}, 6, func(w *world) {
		m := moving{key: "k", p: w.record.PartitionOf([]byte("k"))}
		w.keep(1, m, "shown")
		w.part("a", "b")
		w.nodes[2].host.Pause()
		start := time.Now()
		resp, err := w.get(0, "k", api.LocalQuorum)
		if err != nil {
			t.Fatal(err)
		}
		if r := resp.Receipt; !r.Repaired || len(r.Zones) != 1 || r.Zones[0].Got < 2 || w.own(0, "k") == nil {
			t.Errorf("receipt %+v", r)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %v", took)
		}
		for _, i := range w.in("b") {
			if w.own(i, "k") != nil {
				t.Errorf("node %d has it through a cut", i)
			}
		}
		w.nodes[1].host.Pause()
		if resp, err := w.get(0, "k", api.LocalQuorum); !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("with one home in the zone: %+v, %v", resp, err)
		}
		w.nodes[2].host.Resume()
		time.Sleep(5 * time.Second)
		start = time.Now()
		if got := w.values(0, "k", api.LocalQuorum); !maps.Equal(got, set("shown")) {
			t.Errorf("it shows %v", got)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("a home that hangs held it up for %v", took)
		}
		w.nodes[1].host.Resume()
		w.net.Heal()
		time.Sleep(10 * time.Second)
		if got := w.values(3, "k", api.EachQuorum); !maps.Equal(got, set("shown")) {
			t.Errorf("it shows %v", got)
		}
		for _, level := range []api.Level{api.LocalQuorum, api.EachQuorum} {
			if got := w.values(4, "k", level); !maps.Equal(got, set("shown")) {
				t.Errorf("it shows %v", got)
			}
		}
	})
}
