package node_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// sees waits until a machine's node reaches a member, or reaches it no more.
func (x *box) sees(id ring.NodeID, reachable bool) {
	x.t.Helper()
	x.until(fmt.Sprintf("%s sees %s: %v", x.name, x.nameOf(id), reachable), func() bool {
		s := x.status()
		return s != nil && slices.ContainsFunc(s.Members, func(m api.MemberStatus) bool { return m.ID == id.String() && m.Reachable == reachable })
	})
}

// A leave after which too many of those who vote are dead is refused: nothing could be
// changed ever after.
func TestTheVoteOnTheRingIsNotLeftToTheDead(t *testing.T) {
	inBubble(t, 91, 8, 2, func(b *bubble) {
		b.found(4)
		r := b.settled(b.boxes...)
		var keepers []*box
		var other *box
		for _, x := range b.boxes {
			if r.IsKeeper(x.id) {
				keepers = append(keepers, x)
			} else {
				other = x
			}
		}
		leaver, dead := keepers[0], keepers[1]
		for _, x := range []*box{dead, other} {
			x.kill()
			leaver.sees(x.id, false)
		}
		_, err := leaver.ask(api.ChangeRequest{Verb: api.VerbLeave})
		if !errors.Is(err, api.ErrRefused) || !strings.Contains(err.Error(), other.name) || !strings.Contains(err.Error(), "kith remove") {
			t.Errorf("a leave that leaves the vote to %s and %s, which are dead: %v", dead.name, other.name, err)
		}
		leaver.must(api.ChangeRequest{Verb: api.VerbWeight, Number: 2, Member: leaver.name}) // changes go on
	})
}

// While slots of a leaver are moved, two others are not left with one vote: whichever
// of them is lost then, its place is taken, and the leaver goes.
func TestALeaverVotesUntilItGoes(t *testing.T) {
	for lost := range 2 {
		inBubble(t, 92, 8, 2, func(b *bubble) {
			b.found(3)
			b.settled(b.boxes...)
			leaver, dead, left := b.boxes[2], b.boxes[lost], b.boxes[1-lost]
			leaver.must(api.ChangeRequest{Verb: api.VerbLeave})
			dead.kill()
			left.sees(dead.id, false)
			heir := b.box()
			heir.change = func(c *node.Config) { c.Replace, c.Join = dead.id.String(), []string{left.addr} }
			heir.start()
			b.settled(left, heir)
			<-leaver.node.Done()
			b.until("the leave is known", func() bool { return left.record().Member(leaver.id) == nil })
			r := left.record()
			if len(r.Keepers) != 1 || r.IsKeeper(leaver.id) {
				t.Errorf("keepers are %v after %s left", r.Keepers, leaver.id)
			}
		})
	}
}

// A leaver who has nothing any more stays while the vote would be left to the dead, and
// says so.
func TestALeaverStaysWhileTheVoteWouldBeLeftToTheDead(t *testing.T) {
	inBubble(t, 93, 8, 2, func(b *bubble) {
		b.found(3)
		b.settled(b.boxes...)
		leaver := b.boxes[2]
		leaver.must(api.ChangeRequest{Verb: api.VerbLeave})
		says := func(what string) bool {
			s := leaver.status()
			return s != nil && slices.ContainsFunc(s.Members, func(m api.MemberStatus) bool {
				return m.ID == leaver.id.String() && strings.Contains(strings.Join(m.Problems, " "), what)
			})
		}
		for r := leaver.record(); len(r.Moves) > 0 || r.HomeCount(leaver.id) > 0 || len(leaver.node.Store().Dropping()) > 0; r = leaver.record() {
			time.Sleep(time.Millisecond)
		}
		next, err := leaver.record().WithoutMember(leaver.id)
		if err != nil || len(next.Keepers) != 1 {
			t.Fatalf("who votes after the leave: %v, %v", next, err)
		}
		dead := b.boxes[slices.IndexFunc(b.boxes, func(x *box) bool { return x.id == next.Keepers[0] })]
		dead.kill()
		b.until("the leaver says why it stays", func() bool { return says("vote on the ring") && says(dead.name) })
		dead.start()
		<-leaver.node.Done()
		b.settled(b.boxes[0], b.boxes[1])
	})
}

// Where every vote counts, whoever would have it is asked: one who has died just now is not
// missed yet.
func TestTheVoteOnTheRingIsNotLeftToWhoDiedJustNow(t *testing.T) {
	inBubble(t, 94, 8, 2, func(b *bubble) {
		b.found(4)
		r := b.settled(b.boxes...)
		keepers := slices.DeleteFunc(slices.Clone(b.boxes), func(x *box) bool { return !r.IsKeeper(x.id) })
		other := b.boxes[slices.IndexFunc(b.boxes, func(x *box) bool { return !r.IsKeeper(x.id) })]
		leaver, dead := keepers[0], keepers[1]
		other.kill()
		leaver.sees(other.id, false)
		dead.kill()
		_, err := leaver.ask(api.ChangeRequest{Verb: api.VerbLeave})
		if !errors.Is(err, api.ErrRefused) || !strings.Contains(err.Error(), other.name) || !strings.Contains(err.Error(), dead.name) {
			t.Errorf("a leave that leaves the vote to %s and %s, which are dead: %v", dead.name, other.name, err)
		}
	})
}

// Who may have forgotten what it has voted never votes again: a leaver does not leave the
// vote to it, and goes once it has been replaced.
func TestALeaverStaysWhileTheVoteWouldBeLeftToWhoDoesNotVote(t *testing.T) {
	inBubble(t, 95, 8, 2, func(b *bubble) {
		b.found(3)
		b.settled(b.boxes...)
		leaver, left, silent := b.boxes[2], b.boxes[0], b.boxes[1]
		if left.id.Compare(silent.id) < 0 { // the first one by ID would vote alone
			left, silent = silent, left
		}
		silent.kill()
		journal, ok := silent.disk.Newest(storage.TypeJournal)
		if !ok {
			t.Fatal("there is no journal")
		}
		silent.disk.Flip(journal, silent.disk.Size(journal)*3/4, 1)
		silent.start()
		leaver.sees(silent.id, true)
		heir := b.box()
		heir.change = func(c *node.Config) { c.Standby = true }
		heir.start()
		b.until("the heir is on standby", func() bool { return left.record().Member(heir.id) != nil })
		leaver.must(api.ChangeRequest{Verb: api.VerbLeave})
		b.until("the leaver says why it stays", func() bool {
			says := leaver.problems(leaver)
			return strings.Contains(says, "does not vote") && strings.Contains(says, silent.name)
		})
		if says := left.problems(silent); !strings.Contains(says, "never votes") || !strings.Contains(says, "kith replace") {
			t.Errorf("%s, which does not vote, says of itself: %q", silent.name, says)
		}
		if is := left.record().Member(leaver.id); is == nil || is.State != ring.Leaving {
			t.Fatalf("the leaver is %+v", is)
		}
		left.must(api.ChangeRequest{Verb: api.VerbReplace, Member: silent.id.String(), With: heir.id.String()})
		<-silent.node.Done()
		<-leaver.node.Done()
		b.settled(left, heir)
	})
}
