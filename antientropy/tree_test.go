package antientropy

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

func TestDifferingLeavesAreThoseThatDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := new(store.Tree), new(store.Tree)
		for i := range a.Leaves {
			a.Leaves[i] = store.Sum{High: uint64(i), Low: 7}
		}
		*b = *a
		want := map[int]bool{}
		for range rapid.IntRange(0, 30).Draw(t, "changes") {
			i := rapid.IntRange(0, store.TreeLeaves-1).Draw(t, "leaf")
			b.Leaves[i].Low = rapid.Uint64Range(8, 1<<40).Draw(t, "low")
			want[i] = true
		}
		nodes := nodesOf(a)
		m := new(nodesResponse)
		m.Differ, m.Leaves = differingNodes(b, &nodes)
		set, err := differingLeaves(a, m)
		if err != nil {
			t.Fatal(err)
		}
		for i := range store.TreeLeaves {
			if set.has(i) != want[i] {
				t.Errorf("leaf %d: %v", i, set.has(i))
			}
		}
		if (m.Differ == 0) != (len(want) == 0) {
			t.Errorf("nodes %b for %d leaves", m.Differ, len(want))
		}
	})
}

func TestAnswerWithTooFewLeavesIsRefused(t *testing.T) {
	if _, err := differingLeaves(new(store.Tree), &nodesResponse{Differ: 3, Leaves: make([][arity]store.Sum, 1)}); err == nil {
		t.Error("two nodes with the leaves of one")
	}
}

// pageOf is what a home answers that holds some leaves by key.
func pageOf(all map[string]version.Digest, leaves *leafSet, p ring.Partition, after []byte, limit int) *listResponse {
	m := &listResponse{Done: true}
	n := 0
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if after != nil && k <= string(after) {
			continue
		}
		if n == limit {
			m.Done = false
			break
		}
		n++
		m.Next = []byte(k)
		if leaves.has(store.TreeLeaf(p, []byte(k))) {
			m.Items = append(m.Items, listedKey{[]byte(k), all[k]})
		}
	}
	return m
}

func TestComparisonByPagesFindsEveryKeyThatDiffers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const p = 3
		here, there := map[string]version.Digest{}, map[string]version.Digest{}
		for i := range rapid.IntRange(0, 60).Draw(t, "keys") {
			k := fmt.Sprintf("%c%d", 'a'+i%5, i)
			d := version.Digest{byte(i + 1)}
			switch rapid.IntRange(0, 3).Draw(t, "where") {
			case 0:
				here[k] = d
			case 1:
				there[k] = d
			case 2:
				here[k], there[k] = d, d
			default:
				here[k], there[k] = d, version.Digest{0, 1}
			}
		}
		var leaves leafSet
		if rapid.Bool().Draw(t, "full") {
			leaves = allLeaves()
		} else {
			for range 128 {
				leaves.add(rapid.IntRange(0, store.TreeLeaves-1).Draw(t, "leaf"))
			}
		}
		limit, room := rapid.IntRange(1, 20).Draw(t, "limit"), rapid.IntRange(1, 10).Draw(t, "room")
		var got [][]byte
		var after []byte
		for rounds := 0; ; rounds++ {
			if rounds > 200 {
				t.Fatal("no end")
			}
			page := pageOf(there, &leaves, p, after, limit)
			if err := page.check(after); err != nil {
				t.Fatal(err)
			}
			c := comparison{p: p, leaves: leaves, page: page, room: room}
			for _, k := range slices.Sorted(maps.Keys(here)) {
				if (after == nil || k > string(after)) && !c.add([]byte(k), here[k]) {
					break
				}
			}
			if c.last == nil {
				c.before(nil)
			}
			if len(c.differ) > room {
				t.Fatalf("%d keys, room for %d", len(c.differ), room)
			}
			got = append(got, c.differ...)
			if c.last != nil {
				after = c.last
			} else if after = page.Next; page.Done {
				break
			}
		}
		var want [][]byte
		all := maps.Clone(here)
		maps.Copy(all, there)
		for _, k := range slices.Sorted(maps.Keys(all)) {
			if here[k] != there[k] && leaves.has(store.TreeLeaf(p, []byte(k))) {
				want = append(want, []byte(k))
			}
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestPagesThatGoNowhereAreRefused(t *testing.T) {
	a, b := []byte("a"), []byte("b")
	for i, c := range []struct {
		m     listResponse
		after []byte
		ok    bool
	}{
		{listResponse{Done: true}, nil, true},
		{listResponse{Next: a}, nil, true},
		{listResponse{}, nil, false},
		{listResponse{Next: a}, a, false},
		{listResponse{Next: a}, b, false},
		{listResponse{Items: []listedKey{{Key: b}}, Next: a}, nil, false},
		{listResponse{Items: []listedKey{{Key: b}, {Key: a}}, Done: true}, nil, false},
		{listResponse{Items: []listedKey{{Key: a}, {Key: a}}, Done: true}, nil, false},
		{listResponse{Items: []listedKey{{Key: a}}, Done: true}, a, false},
		{listResponse{Items: []listedKey{{Key: a}, {Key: b}}, Done: true, Next: b}, nil, true},
	} {
		if err := c.m.check(c.after); (err == nil) != c.ok {
			t.Errorf("%d: %v", i, err)
		}
	}
	if err := new(listResponse).ParseWire(wire.NewReader((&listResponse{Items: []listedKey{{Key: a}}}).AppendWire(nil))); err != nil {
		t.Error(err)
	}
}
