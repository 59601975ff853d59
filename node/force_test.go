package node_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// put and get are one request each, at a level, with ten seconds.
func (x *box) put(key, value string, w api.Level) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := api.Put.Call(ctx, x.me, x.peer(), &api.PutRequest{Key: []byte(key), Value: []byte(value), W: w})
	return err
}

func (x *box) get(key string, r api.Level) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	resp, err := api.Get.Call(ctx, x.me, x.peer(), &api.GetRequest{Key: []byte(key), R: r})
	if err != nil || !resp.Found {
		return "", err
	}
	return string(resp.Values[resp.Winner].Data), nil
}

// force asks a machine to force the ring with some survivors.
func (x *box) force(survivors ...*box) (*api.ChangeResponse, error) {
	req := &api.ForceRequest{Cluster: x.record().Cluster.String(), Who: "ada@host"}
	for _, s := range survivors {
		req.Survivors = append(req.Survivors, s.name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return api.Force.Call(ctx, x.me, x.peer(), req)
}

// homesUp counts a key's homes whose machine runs.
func (b *bubble) homesUp(r *ring.Record, key string) (n int) {
	for _, x := range b.up() {
		if r.HomeIndex(r.PartitionOf([]byte(key)), x.id) >= 0 {
			n++
		}
	}
	return n
}

// A majority of the keepers is gone for good. Keys are read and written as far as their
// homes are there; the ring is not changed, and the refusal names who is missing and what
// to do; survivors force it, and the cluster is whole again with new members.
func TestTheDataPlaneGoesOnWithoutKeepersAndSurvivorsForceTheRing(t *testing.T) {
	inBubble(t, 200, 16, 3, func(b *bubble) {
		b.found(5)
		first := b.boxes[0]
		keys := make([]string, 48)
		for i := range keys {
			keys[i] = fmt.Sprint("key-", i)
			if err := first.put(keys[i], "old", api.All); err != nil {
				t.Fatal(err)
			}
		}
		for _, x := range b.boxes[2:] {
			x.kill()
		}
		time.Sleep(20 * time.Second)
		r := first.record()
		has := map[int]int{}
		for _, key := range keys {
			there := b.homesUp(r, key)
			has[there]++
			if err := first.put(key, "new", api.Quorum); (err == nil) != (there >= 2) {
				t.Errorf("%s with %d of 3 homes is written: %v", key, there, err)
			}
			if value, err := first.get(key, api.One); (err == nil) != (there >= 1) || err == nil && value == "" {
				t.Errorf("%s with %d of 3 homes is read: %q, %v", key, there, value, err)
			}
		}
		if has[0] == 0 || has[1] == 0 || has[2] == 0 {
			t.Fatalf("keys by how many homes are there: %v: want some of each", has)
		}
		_, err := first.ask(api.ChangeRequest{Verb: api.VerbWeight, Member: "n1", Number: 3})
		if !errors.Is(err, api.ErrUnavailable) {
			t.Fatalf("the ring is changed without keepers: %v", err)
		}
		for _, want := range []string{"nothing was changed", "3 of the 5", "n3", "n4", "n5", "kith ring force-epoch --survivors n1,n2"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the refusal does not say %q: %v", want, err)
			}
		}
		if _, err := b.boxes[1].force(first, b.boxes[1], b.boxes[2]); !errors.Is(err, api.ErrRefused) || !strings.Contains(err.Error(), "n3") {
			t.Errorf("forced with one who is dead: %v", err)
		}
		done, err := first.force(first, b.boxes[1])
		if err != nil {
			t.Fatal(err)
		}
		if said := strings.Join(done.Said, "\n"); !strings.Contains(said, "FORCED") || !strings.Contains(said, "ada@host") {
			t.Errorf("it says %s", said)
		}
		b.until("history tells of it", func() bool { return strings.Contains(first.history(), "FORCED") })
		for _, key := range keys {
			if there := b.homesUp(r, key); there >= 2 {
				if value, err := b.boxes[1].get(key, api.Quorum); err != nil || value != "new" {
					t.Errorf("%s reads as %q after the ring was forced: %v", key, value, err)
				}
			}
		}
		for range 2 {
			b.box().start()
		}
		b.until("the new ones are members", func() bool {
			r := first.record()
			return r.Member(b.boxes[5].id) != nil && r.Member(b.boxes[6].id) != nil
		})
		for _, x := range b.boxes[2:5] {
			first.must(api.ChangeRequest{Verb: api.VerbRemove, Member: x.name, DataLost: true})
		}
		r = b.settled(first, b.boxes[1], b.boxes[5], b.boxes[6])
		if len(r.Keepers) != 3 {
			t.Errorf("%d keepers", len(r.Keepers))
		}
		for _, key := range keys {
			b.until(key+" can be read and written", func() bool { return first.put(key, "last", api.All) == nil })
		}
	})
}

// problems are what a machine's node tells of one member.
func (x *box) problems(of *box) string {
	s := x.status()
	if s == nil {
		return ""
	}
	for i := range s.Members {
		if s.Members[i].ID == of.id.String() {
			return strings.Join(s.Members[i].Problems, "\n")
		}
	}
	return ""
}

// A lost keeper that comes back has its data, brings it home, and keeps again when it is
// readmitted. No key that was acknowledged is lost.
func TestALostKeeperComesBackWithItsData(t *testing.T) {
	inBubble(t, 210, 16, 3, func(b *bubble) {
		b.found(5)
		first := b.boxes[0]
		c := b.check(24, 100*time.Millisecond, b.boxes[:2]...)
		time.Sleep(5 * time.Second)
		for _, x := range b.boxes[2:] {
			x.kill()
		}
		time.Sleep(20 * time.Second)
		if _, err := first.force(first, b.boxes[1]); err != nil {
			t.Fatal(err)
		}
		for _, x := range b.boxes[2:] {
			x.start()
		}
		back := b.boxes[3]
		b.until("who is back has adopted it", func() bool { r := back.record(); return r != nil && r.IsApart(back.id) })
		b.until("status says so", func() bool { return strings.Contains(first.problems(back), "not among the survivors") })
		for _, x := range b.boxes[2:] {
			first.must(api.ChangeRequest{Verb: api.VerbJoin, Member: x.name})
		}
		r := b.settled(b.boxes...)
		if len(r.Keepers) != 5 || slices.ContainsFunc(b.boxes, func(x *box) bool { return r.IsApart(x.id) }) {
			t.Errorf("keepers are %v", r.Keepers)
		}
		if text := first.problems(back); strings.Contains(text, "survivors") {
			t.Errorf("status still says %s", text)
		}
		c.end()
	})
}

// Who has the only copy is given up only by somebody who accepts the loss; then its keys
// begin anew.
func TestFault23_TheOnlyCopyIsGivenUpOnlyByHand(t *testing.T) {
	inBubble(t, 220, 8, 1, func(b *bubble) {
		b.willing(3)
		first, dead := b.boxes[0], b.boxes[2]
		for i := range 24 {
			if err := first.put(fmt.Sprint("key-", i), "v", api.One); err != nil {
				t.Fatal(err)
			}
		}
		before := first.record()
		dead.kill()
		time.Sleep(10 * time.Minute)
		if r := first.record(); r.Digest() != before.Digest() {
			t.Fatalf("the only copy was given up by itself: %v", r.Changes(before))
		}
		if text := first.problems(dead); !strings.Contains(text, "can be neither read nor written") {
			t.Errorf("status says of it: %s", text)
		}
		_, err := first.ask(api.ChangeRequest{Verb: api.VerbRemove, Member: dead.name})
		if !errors.Is(err, api.ErrRefused) || !strings.Contains(err.Error(), "the only copy of") || !strings.Contains(err.Error(), "--data-lost") {
			t.Fatalf("removed: %v", err)
		}
		// Back in time, it has everything.
		dead.start()
		b.until("it is back", dead.ready)
		for i := range 24 {
			if value, err := first.get(fmt.Sprint("key-", i), api.One); err != nil || value != "v" {
				t.Fatalf("key-%d reads as %q: %v", i, value, err)
			}
		}
		dead.kill()
		time.Sleep(30 * time.Second)
		first.must(api.ChangeRequest{Verb: api.VerbRemove, Member: dead.name, DataLost: true})
		b.settled(b.boxes[:2]...)
		for i := range 24 {
			key := fmt.Sprint("key-", i)
			want := "v"
			if before.HomeIndex(before.PartitionOf([]byte(key)), dead.id) >= 0 {
				want = ""
			}
			if value, err := first.get(key, api.One); err != nil || value != want {
				t.Errorf("%s reads as %q, want %q: %v", key, value, want, err)
			}
			if err := first.put(key, "new", api.One); err != nil {
				t.Error(err)
			}
		}
	})
}

// A member that tells others an address at which nobody can dial it, as behind NAT: it can
// read and write itself, is not counted as reachable, and is named.
func TestFault15_AMemberThatTellsAWrongAddressIsNamed(t *testing.T) {
	inBubble(t, 230, 16, 3, func(b *bubble) {
		b.found(3)
		wrong := b.box()
		wrong.tells = "192.168.99.99:7600"
		wrong.start()
		first := b.boxes[0]
		b.until("it is a member", func() bool { r := wrong.record(); return r != nil && r.Member(wrong.id) != nil })
		if err := wrong.put("k", "v", api.Quorum); err != nil {
			t.Errorf("it cannot write: %v", err)
		}
		if value, err := wrong.get("k", api.Quorum); err != nil || value != "v" {
			t.Errorf("it cannot read: %q, %v", value, err)
		}
		reach := func(x *box) *api.ReachResponse {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			resp, err := api.Reach.Call(ctx, x.me, x.peer(), &api.ReachRequest{})
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		for _, x := range b.boxes {
			b.until("gossip has come around", func() bool {
				return !slices.ContainsFunc(reach(x).Peers, func(p api.ReachedPeer) bool { return !p.Gossip })
			})
			for _, p := range reach(x).Peers {
				bad := p.ID == wrong.id
				if (p.Error != "") != bad || !p.Gossip || bad && p.Addr != wrong.tells {
					t.Errorf("%s reaches %+v", x.name, p)
				}
			}
		}
		b.until("it is not counted as reachable", func() bool {
			s := first.status()
			return s != nil && slices.ContainsFunc(s.Members, func(m api.MemberStatus) bool { return m.ID == wrong.id.String() && !m.Reachable })
		})
		if s := first.status(); !s.Ready {
			t.Errorf("the others do not serve: %s", s.Reason)
		}
	})
}

// The ring is forced while slots move: what was pulled for them counts no more, and they
// come to their end all the same, with nothing lost.
func TestSlotsThatMoveOutliveThatTheRingIsForced(t *testing.T) {
	for seed, phase := range []ring.Phase{ring.PhaseDual, ring.PhaseReadNew} {
		inBubble(t, 240+uint64(seed), 16, 3, func(b *bubble) {
			b.found(5)
			c := b.check(24, 50*time.Millisecond, b.boxes[:2]...)
			newcomer := b.box()
			newcomer.start()
			first := b.boxes[0]
			first.phase(phase, func(m ring.Move) bool { return m.To == newcomer.id })
			r := first.record()
			survivors := []*box{first, newcomer}
			for _, x := range b.boxes[1:5] {
				// So many go that fewer than a majority of the keepers is left.
				left := 0
				for _, y := range b.up() {
					if r.IsKeeper(y.id) {
						left++
					}
				}
				if r.IsKeeper(x.id) && 2*left > len(r.Keepers) {
					x.kill()
				} else {
					survivors = append(survivors, x)
				}
			}
			var forced *api.ChangeResponse
			b.until("the ring is forced", func() (ok bool) {
				var err error
				forced, err = first.force(survivors...)
				return err == nil
			})
			for _, x := range b.boxes {
				x.start()
			}
			b.until("all have adopted it", func() bool {
				return !slices.ContainsFunc(b.boxes, func(x *box) bool { r := x.record(); return r == nil || r.Epoch < forced.Epoch })
			})
			b.settled(b.boxes...)
			c.end()
		})
	}
}

// Keepers that were given up, and live, go on by themselves: status says so on both sides
// when they meet, and no request is carried out by both.
func TestASplitRingIsSaidOnBothSides(t *testing.T) {
	inBubble(t, 250, 16, 3, func(b *bubble) {
		b.found(5)
		var one, two []string
		for i, x := range b.boxes {
			if i < 2 {
				one = append(one, x.name)
			} else {
				two = append(two, x.name)
			}
		}
		all := append([]string{"me"}, one...)
		b.net.Partition(all, two)
		time.Sleep(30 * time.Second)
		if _, err := b.boxes[0].force(b.boxes[0], b.boxes[1]); err != nil {
			t.Fatal(err)
		}
		b.net.Heal() // for no time
		b.net.Partition(one, append([]string{"me"}, two...))
		b.boxes[3].must(api.ChangeRequest{Verb: api.VerbWeight, Member: "n3", Number: 2})
		b.net.Heal()
		for _, x := range b.boxes {
			b.until(x.name+" says that the ring is split", func() bool { return strings.Contains(x.problems(x), "split into two histories") })
		}
		forced, other := b.boxes[0].record(), b.boxes[4].record()
		if len(forced.Forced) != 1 || len(other.Forced) != 0 {
			t.Errorf("one side took over what the other has: %d and %d", len(forced.Forced), len(other.Forced))
		}
		// Whoever is asked, and passes the request on, homes of one side alone are counted.
		acked := make([]int, 2)
		for i := range 64 {
			for _, x := range []*box{b.boxes[0], b.boxes[3]} {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				resp, err := api.Put.Call(ctx, x.me, x.peer(), &api.PutRequest{Key: []byte(fmt.Sprint("key-", i)), Value: []byte("v"), W: api.Quorum})
				cancel()
				if err != nil {
					continue
				}
				sides := map[int]bool{}
				for _, id := range resp.Receipt.Answered {
					side := 0
					if !slices.ContainsFunc(b.boxes[:2], func(y *box) bool { return y.id == id }) {
						side = 1
					}
					sides[side] = true
					acked[side]++
				}
				if len(sides) != 1 {
					t.Errorf("key-%d at %s is acknowledged by both sides: %v", i, x.name, resp.Receipt.Answered)
				}
			}
		}
		if acked[0] == 0 || acked[1] == 0 {
			t.Errorf("the sides have given %v acknowledgements", acked)
		}
	})
}
