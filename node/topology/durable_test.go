package topology

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syndtr/goleveldb/leveldb/opt"

	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	simdisk "github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
)

// alone is a cluster of one on the real store, which tells what it answered.
type alone struct {
	t    *testing.T
	disk *simdisk.Disk
	seed uint64

	store *store.Store
	*Topology

	register uint64
	promised uint64 // the highest round to which it has said yes
	accepted []byte // what it has said yes to last
	epoch    uint64 // that it has held
	guests   int
}

func (a *alone) open() {
	a.t.Helper()
	s, err := store.Open(a.disk.Open(), store.Options{CacheBytes: opt.MiB, WriteBuffer: 4 * opt.MiB})
	if err != nil {
		a.t.Fatalf("seed %d: %v", a.seed, err)
	}
	if h := s.Health(); h.LossyAll {
		a.t.Fatalf("seed %d: %v", a.seed, h.Losses)
	}
	a.store = s
	w := &world{t: a.t}
	a.Topology, err = Open(Config{Self: ring.Member{ID: ring.NodeID{1}}, Cluster: "test", Founder: true, Expect: 1, Replicas: 1, Partitions: 16,
		Disk: s, Membership: (*member)(&node{world: w}), Transport: nowhere{}, Seed: a.seed})
	if err != nil {
		a.t.Fatalf("seed %d: %v", a.seed, err)
	}
}

type nowhere struct{}

func (nowhere) Send(_ rpc.Peer, _ string, _ any, _ time.Time, c rpc.Completer) {
	c.Complete(nil, rpc.ErrUnreachable)
}

// ask votes once; what is answered with yes must never be forgotten.
func (a *alone) ask(round uint64, value []byte) {
	a.t.Helper()
	h := a.held.Load()
	req := &voteRequest{Register: h.record.Epoch + 1, Base: h.encoded, Accept: value != nil, Ballot: paxos.Ballot{Round: round}, Value: value}
	reply, err := a.vote(a.t.Context(), req)
	if err != nil || !reply.OK {
		return // cut off, or refused
	}
	if req.Register != a.register {
		a.register, a.promised, a.accepted = req.Register, 0, nil
	}
	if round < a.promised || value == nil && round == a.promised {
		a.t.Errorf("seed %d: yes to round %d after %d", a.seed, round, a.promised)
	}
	if value == nil && a.accepted != nil && !bytes.Equal(reply.Value, a.accepted) {
		a.t.Errorf("seed %d: the promise of round %d does not tell what was accepted", a.seed, round)
	}
	a.promised = round
	if value != nil {
		a.accepted = value
	}
}

func (a *alone) adopt(next []byte) {
	if a.Adopt(a.t.Context(), next) == nil {
		a.epoch = max(a.epoch, a.Current().Epoch)
	}
}

// The machine loses power at any moment, also in the middle of a vote.
func TestFault36_NoVoteAndNoRecordIsForgottenInAPowerCut(t *testing.T) {
	for seed := range uint64(runs(15)) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 6))
			a := &alone{t: t, disk: simdisk.New(seed), seed: seed}
			a.disk.SetSyncDelay(func() time.Duration { return time.Millisecond })
			for range 6 {
				a.open()
				if got := a.Current().Epoch; got < a.epoch {
					t.Fatalf("seed %d: epoch %d after %d", seed, got, a.epoch)
				}
				cut := make(chan struct{})
				time.AfterFunc(time.Duration(1+r.IntN(40_000))*time.Microsecond, func() { a.disk.PowerCut(); close(cut) })
				for off := false; !off; {
					a.guests++
					next, err := a.Current().WithStandby(ring.Member{ID: ring.NodeID{2, byte(a.guests >> 8), byte(a.guests)}})
					if err != nil {
						t.Fatal(err)
					}
					switch r.IntN(6) {
					case 0:
						a.adopt(next.Encode())
					case 1, 2:
						a.ask(a.promised+uint64(r.IntN(3)), next.Encode())
					default:
						a.ask(a.promised+uint64(r.IntN(3)), nil)
					}
					select {
					case <-cut:
						off = true
					case <-time.After(time.Microsecond):
					}
				}
				a.store.Close()
			}
			time.Sleep(2 * time.Second) // goleveldb's buffer pool ends a second after its database
		})
	}
}
