package node_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// long is how many stories a random test plays: few, a third of them under the race
// detector, which is slow, and sees as much in those; or KITH_LONG.
func long(few int) int {
	if n, err := strconv.Atoi(os.Getenv("KITH_LONG")); err == nil && n > 0 {
		return n
	}
	if raced {
		return (few + 2) / 3
	}
	return few
}

// Operators change the ring as they like while machines are killed, cut off and come
// back. In the end, with everybody there, nothing is left to be moved, everybody has an
// even share, and nothing acknowledged is lost.
func TestFault53_MovesEndWellWhateverInterruptsThem(t *testing.T) {
	for seed := range uint64(long(6)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, 1000+seed, 8, 3, func(b *bubble) {
				s := &storyteller{bubble: b, rng: rand.New(rand.NewPCG(seed, 7))}
				s.tell()
			})
		})
	}
}

type storyteller struct {
	*bubble
	rng    *rand.Rand
	joined int
	// resizes has operators ask for other numbers of homes, too. They give nobody up
	// then: with one home, what that has is gone.
	resizes bool
	asked   atomic.Pointer[[]rpc.Peer] // whom clients ask
}

// look has clients ask those whose process is there.
func (s *storyteller) look() {
	boxes := s.running()
	if len(boxes) == 0 {
		boxes = s.boxes
	}
	peers := peersOf(boxes)
	s.asked.Store(&peers)
}

func (s *storyteller) tell() {
	s.found(4)
	s.look()
	c := s.checkAt(12, 150*time.Millisecond, func() []rpc.Peer { return *s.asked.Load() })
	for range 12 + s.rng.IntN(12) {
		time.Sleep(time.Duration(s.rng.IntN(1500)) * time.Millisecond)
		s.fault()
		s.look()
		s.wish()
	}
	s.net.Heal()
	for _, x := range s.boxes {
		x.revive()
	}
	s.look()
	s.rest()
	c.end()
}

// running are the machines whose process is there.
func (s *storyteller) running() []*box {
	return slices.DeleteFunc(slices.Clone(s.boxes), func(x *box) bool { return x.node == nil })
}

// revive starts the machine's process, unless it is no member any more.
func (x *box) revive() {
	if x.gone {
		return
	}
	if err := x.boot(); errors.Is(err, ring.ErrBanned) {
		x.gone = true
	} else if err != nil {
		x.t.Errorf("seed %d: start of %s: %v", x.seed, x.name, err)
	}
}

// fault kills a machine, cuts one off, or ends faults.
func (s *storyteller) fault() {
	x := s.boxes[s.rng.IntN(len(s.boxes))]
	switch s.rng.IntN(6) {
	case 0:
		x.kill()
	case 1, 2:
		for _, x := range s.boxes {
			x.revive()
		}
	case 3:
		var others []string
		for _, other := range s.boxes {
			if other != x {
				others = append(others, other.name)
			}
		}
		s.net.Partition([]string{x.name}, others)
	case 4, 5:
		s.net.Heal()
	}
	for _, x := range s.boxes {
		x.bury()
	}
}

// bury stops a process that has given up, because its node is no member any more.
func (x *box) bury() {
	if x.node == nil {
		return
	}
	select {
	case <-x.node.Done():
		if err := x.node.Err(); !errors.Is(err, ring.ErrBanned) {
			x.t.Errorf("seed %d: %s gives up: %v", x.seed, x.name, err)
		}
		x.gone = true
		x.stop()
	default:
	}
}

// wish asks some machine for some change.
func (s *storyteller) wish() {
	up := s.running()
	if len(up) == 0 {
		return
	}
	at, of := up[s.rng.IntN(len(up))], s.boxes[s.rng.IntN(len(s.boxes))]
	req := api.ChangeRequest{Member: of.name}
	if s.resizes && s.rng.IntN(2) == 0 {
		s.hear(at, api.ChangeRequest{Verb: api.VerbReplicas, Number: 1 + s.rng.IntN(5)})
		return
	}
	switch s.rng.IntN(7) {
	case 0, 1:
		if s.joined < 3 {
			s.joined++
			s.box().start()
		}
		return
	case 2:
		req.Verb = api.VerbLeave
	case 3:
		req.Verb = api.VerbAbort
	case 4:
		req.Verb = api.VerbJoin
	case 5:
		req.Verb, req.Number = api.VerbWeight, 1+s.rng.IntN(3)
	case 6:
		if s.resizes {
			return
		}
		req.Verb = api.VerbRemove
	}
	s.hear(at, req)
}

// hear asks a machine for a change; only some answers are any.
func (s *storyteller) hear(at *box, req api.ChangeRequest) {
	_, err := at.ask(req)
	s.t.Logf("%v of %s %d at %s: %v", req.Verb, req.Member, req.Number, at.name, err)
	known := []error{nil, api.ErrRefused, api.ErrBadRequest, api.ErrUnknown, api.ErrUnavailable, api.ErrNotReady, rpc.ErrLost, rpc.ErrUnreachable, rpc.ErrDeadline}
	if !slices.ContainsFunc(known, func(k error) bool { return errors.Is(err, k) }) {
		s.t.Errorf("seed %d: %v of %s at %s is answered by %v", s.seed, req.Verb, req.Member, at.name, err)
	}
}

// rest waits until the ring asks for nothing more.
func (s *storyteller) rest() {
	s.t.Helper()
	s.until("the ring is at rest", func() bool {
		var r *ring.Record
		for _, x := range s.boxes {
			x.bury()
		}
		for _, x := range s.running() {
			held := x.record()
			if held == nil || r != nil && held.Digest() != r.Digest() {
				return false
			}
			r = held
		}
		if r == nil || len(r.Moves) > 0 {
			return false
		}
		next, err := r.WithQueue()
		if err != nil || next != r {
			return false
		}
		for _, m := range r.Members {
			if m.State != ring.Active && m.State != ring.Standby {
				return false
			}
		}
		return true
	})
	for _, x := range s.running() {
		r := x.record()
		for p := range ring.Partition(r.Partitions) {
			if !r.Holds(p, x.id) {
				s.until(fmt.Sprintf("%s has dropped partition %d", x.name, p), func() bool { return x.empty(p) })
			}
		}
	}
}
