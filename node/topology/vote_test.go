package topology

import (
	"errors"
	"testing"

	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

func (n *node) prepare(round uint64) (paxos.Reply, error) {
	h := n.held.Load()
	return n.vote(n.t.Context(), &voteRequest{Register: h.record.Epoch + 1, Base: h.encoded, Ballot: paxos.Ballot{Round: round}})
}

func (n *node) accept(round uint64, value []byte) (paxos.Reply, error) {
	h := n.held.Load()
	return n.vote(n.t.Context(), &voteRequest{Register: h.record.Epoch + 1, Base: h.encoded, Accept: true, Ballot: paxos.Ballot{Round: round}, Value: value})
}

func (n *node) successor(i int) []byte {
	next, err := n.Current().WithStandby(guest(i))
	if err != nil {
		n.t.Fatal(err)
	}
	return next.Encode()
}

func TestAVoteSurvivesTheProcess(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.founded(3, 3)[0]
		value := n.successor(1)
		if r, err := n.prepare(5); err != nil || !r.OK {
			t.Fatalf("%+v, %v", r, err)
		}
		n.kill()
		n.start()
		if r, err := n.accept(4, value); err != nil || r.OK || r.Promised.Round != 5 {
			t.Fatalf("below its promise: %+v, %v", r, err)
		}
		if r, err := n.accept(6, value); err != nil || !r.OK {
			t.Fatalf("%+v, %v", r, err)
		}
		n.kill()
		n.start()
		if r, err := n.prepare(7); err != nil || !r.OK || r.Accepted.Round != 6 || string(r.Value) != string(value) {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}

func TestAVoteThatCannotBeStoredIsNotGiven(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.founded(3, 3)[0]
		n.disk.mu.Lock()
		n.disk.fail = errors.New("input/output error")
		n.disk.mu.Unlock()
		if _, err := n.prepare(5); !errors.Is(err, n.disk.fail) {
			t.Fatal(err)
		}
	})
}

func TestOnlyWhatMayFollowIsVotedOn(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.founded(3, 3)[0]
		held := n.held.Load()
		skips := *held.record
		skips.Epoch += 2
		for name, value := range map[string][]byte{"junk": []byte("junk"), "nothing": nil, "itself": held.encoded, "two epochs on": skips.Encode()} {
			if r, err := n.accept(9, value); r.OK || !errors.Is(err, ErrBadProposal) {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
		}
		for name, req := range map[string]*voteRequest{
			"no base":           {Register: 3, Ballot: paxos.Ballot{Round: 1}},
			"another's base":    {Register: 7, Base: held.encoded, Ballot: paxos.Ballot{Round: 1}},
			"register number 0": {Register: 0, Base: held.encoded, Ballot: paxos.Ballot{Round: 1}},
		} {
			if r, err := n.vote(t.Context(), req); r.OK || !errors.Is(err, ErrBadProposal) {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
		}
		twin := *held.record
		twin.Members = append([]ring.Member(nil), twin.Members...)
		twin.Members[0].Name = "twin"
		if _, err := n.vote(t.Context(), &voteRequest{Register: 3, Base: twin.Encode(), Ballot: paxos.Ballot{Round: 1}}); !errors.Is(err, ErrDiverged) {
			t.Errorf("another record of the epoch: %v", err)
		}
		standby := w.node(Config{})
		standby.start()
		w.agree(3, n, standby)
		if _, err := standby.prepare(99); !errors.Is(err, ErrNotKeeper) {
			t.Errorf("who is no keeper: %v", err)
		}
	})
}

func TestAClientChangesNothing(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.founded(1, 1)[0]
		client, held := &sender{&node{world: w}, &life{}}, n.held.Load()
		to := rpc.Peer{ID: n.id, Addr: n.addr}
		if _, err := tellRoute.Call(t.Context(), client, to, &tellRequest{n.successor(1)}); !errors.Is(err, ErrBadProposal) {
			t.Errorf("tell: %v", err)
		}
		_, err := voteRoute.Call(t.Context(), client, to, &voteRequest{Register: 3, Base: held.encoded, Ballot: paxos.Ballot{Round: 1}})
		if !errors.Is(err, ErrBadProposal) || n.Current() != held.record {
			t.Errorf("vote: %v", err)
		}
		if resp, err := pullRoute.Call(t.Context(), client, to, &pullRequest{}); err != nil || resp.Epoch != 2 {
			t.Errorf("a client may look: %v", err)
		}
	})
}

func TestAKeeperThatKnowsTheOutcomeTellsItInsteadOfVoting(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		old := nodes[0].held.Load()
		if err := nodes[0].add(1); err != nil {
			t.Fatal(err)
		}
		if err := nodes[0].add(2); err != nil {
			t.Fatal(err)
		}
		r, err := nodes[0].vote(t.Context(), &voteRequest{Register: 3, Base: old.encoded, Ballot: paxos.Ballot{Round: 1000}})
		if err != nil || r.OK || string(r.Decided) != string(nodes[0].held.Load().encoded) {
			t.Fatalf("%v, %v", r.OK, err)
		}
	})
}

func TestAKeeperThatLostDataAbstainsForEver(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		n := nodes[0]
		lost := errors.New("the journal ends too early")
		n.kill()
		n.cfg.Lost = func() error { return lost }
		n.start()
		if _, err := n.prepare(1); !errors.Is(err, ErrAbstains) {
			t.Fatal(err)
		}
		n.kill()
		lost = nil // repaired, but the vote is gone all the same
		n.start()
		if _, err := n.prepare(1); !errors.Is(err, ErrAbstains) {
			t.Fatalf("after a restart: %v", err)
		}
		if err := n.add(1); err != nil { // it may still propose, and two others vote
			t.Fatal(err)
		}
	})
}

func TestALossSeenWhileRunningEndsTheVote(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.node(Config{Founder: true, Expect: 1, Replicas: 1})
		lost := error(nil)
		n.cfg.Lost = func() error { return lost }
		n.start()
		w.agree(2, n)
		lost = errors.New("a table is missing")
		if _, err := n.prepare(1); !errors.Is(err, ErrAbstains) || !errors.Is(err, lost) {
			t.Fatal(err)
		}
		lost = nil
		if _, err := n.prepare(1); !errors.Is(err, ErrAbstains) {
			t.Fatal(err)
		}
	})
}

func TestADiskThatWentBackInTimeAbstains(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		n := nodes[0]
		old := n.disk.meta["ring"]
		if err := n.add(1); err != nil {
			t.Fatal(err)
		}
		if _, err := n.prepare(1); err != nil { // a vote on epoch 4
			t.Fatal(err)
		}
		n.kill()
		n.disk.meta["ring"] = old // of epoch 2
		w.cut(n)
		n.start()
		if _, err := n.prepare(9); !errors.Is(err, ErrAbstains) {
			t.Fatal(err)
		}
	})
}

func TestAFounderWithoutItsRecordDoesNotFoundAgain(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.node(Config{Founder: true, Expect: 1, Replicas: 1})
		n.start()
		w.agree(2, n)
		n.kill()
		delete(n.disk.meta, "ring")
		if err := n.open(); !errors.Is(err, ErrAbstains) {
			t.Fatal(err)
		}
	})
}

func TestACorruptCellAbstains(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.founded(3, 3)[0]
		if _, err := n.prepare(5); err != nil {
			t.Fatal(err)
		}
		n.kill()
		cell := n.disk.meta[metaCell]
		cell[len(cell)-1] ^= 1
		n.start()
		if _, err := n.prepare(9); !errors.Is(err, ErrAbstains) {
			t.Fatal(err)
		}
	})
}
