package paxos

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func resum(cell []byte) []byte {
	binary.BigEndian.PutUint32(cell[1:], crc32.Checksum(cell[5:], castagnoli))
	return cell
}

var errCut = errors.New("cut off")

// memory is an acceptor in memory, with a network in front of it that is slow,
// loses messages, or is cut.
type memory struct {
	mu      sync.Mutex
	cell    Cell
	chance  *rand.Rand
	lossy   bool
	cut     bool
	silent  bool // takes messages and never answers
	mute    bool // answers prepares only
	slow    time.Duration
	decided []byte
}

func (m *memory) call(ctx context.Context, vote func(Cell) (Cell, Reply)) (Reply, error) {
	m.mu.Lock()
	delay := m.slow + time.Duration(m.chance.IntN(5000))*time.Microsecond
	lost := m.lossy && m.chance.IntN(3) == 0
	cut, silent := m.cut, m.silent
	m.mu.Unlock()
	if cut {
		return Reply{}, errCut
	}
	if !lost {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return Reply{}, ctx.Err()
		}
		m.mu.Lock()
		reply := Reply{Decided: m.decided}
		if m.decided == nil {
			m.cell, reply = vote(m.cell)
		}
		lost = m.lossy && m.chance.IntN(3) == 0
		m.mu.Unlock()
		if !lost && !silent {
			return reply, nil
		}
	}
	<-ctx.Done()
	return Reply{}, ctx.Err()
}

func (m *memory) Prepare(ctx context.Context, b Ballot) (Reply, error) {
	return m.call(ctx, func(c Cell) (Cell, Reply) { return c.Prepare(b) })
}

func (m *memory) Accept(ctx context.Context, b Ballot, v []byte) (Reply, error) {
	if m.mute {
		return Reply{}, errCut
	}
	return m.call(ctx, func(c Cell) (Cell, Reply) { return c.Accept(b, v) })
}

func memories(n int, seed uint64) ([]*memory, []Acceptor) {
	all, acceptors := make([]*memory, n), make([]Acceptor, n)
	for i := range all {
		all[i] = &memory{chance: rand.New(rand.NewPCG(seed, uint64(i)))}
		acceptors[i] = all[i]
	}
	return all, acceptors
}

func TestConcurrentProposersAgree(t *testing.T) {
	for seed := range uint64(runs(40)) {
		synctest.Test(t, func(t *testing.T) {
			all, acceptors := memories(1+int(seed%5), seed)
			for _, m := range all {
				m.lossy = seed%2 == 1
			}
			var got [4][]byte
			var wg sync.WaitGroup
			for i := range got {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 4*time.Hour)
					defer cancel()
					var err error
					got[i], err = Propose(ctx, Node{byte(i + 1)}, acceptors, fmt.Append(nil, "value ", i), rand.New(rand.NewPCG(seed, uint64(100+i))))
					if err != nil {
						t.Errorf("seed %d: %v", seed, err)
					}
				})
			}
			wg.Wait()
			for _, v := range got {
				if string(v) != string(got[0]) || !strings.HasPrefix(string(v), "value ") {
					t.Errorf("seed %d: decided %q", seed, got)
				}
			}
		})
	}
}

func TestProposeSurvivesAMinorityThatIsGoneOrSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, acceptors := memories(5, 1)
		all[1].cut, all[3].silent = true, true
		start := time.Now()
		v, err := Propose(t.Context(), Node{1}, acceptors, []byte("v"), rand.New(rand.NewPCG(1, 1)))
		if err != nil || string(v) != "v" {
			t.Fatalf("%q, %v", v, err)
		}
		if took := time.Since(start); took > 50*time.Millisecond {
			t.Fatalf("waited %v for acceptors that it does not need", took)
		}
	})
}

func TestProposeWithoutMajorityTellsWhoFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, acceptors := memories(3, 1)
		all[0].cut, all[2].cut = true, true
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := Propose(ctx, Node{1}, acceptors, []byte("v"), rand.New(rand.NewPCG(1, 1)))
		var undecided *UndecidedError
		if !errors.As(err, &undecided) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if undecided.Sent || undecided.Acceptors[0] != errCut || undecided.Acceptors[1] != nil || undecided.Acceptors[2] != errCut {
			t.Fatalf("%+v", undecided)
		}
		if want := "2 of 3 acceptors failed (0: cut off; 2: cut off)"; !strings.Contains(err.Error(), want) {
			t.Fatalf("%q does not say %q", err, want)
		}
	})
}

func TestProposeGoesOnWhenTheMajorityIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, acceptors := memories(3, 1)
		all[0].cut, all[1].silent = true, true
		time.AfterFunc(time.Minute, func() {
			for _, m := range all {
				m.mu.Lock()
				m.cut, m.silent = false, false
				m.mu.Unlock()
			}
		})
		v, err := Propose(t.Context(), Node{1}, acceptors, []byte("v"), rand.New(rand.NewPCG(1, 1)))
		if err != nil || string(v) != "v" {
			t.Fatalf("%q, %v", v, err)
		}
	})
}

// The one that was killed left its value at one acceptor or more.
func TestProposeFinishesWhatAKilledProposerLeft(t *testing.T) {
	for left := 1; left <= 3; left++ {
		synctest.Test(t, func(t *testing.T) {
			all, acceptors := memories(3, 1)
			dead := Ballot{7, Node{9}}
			for i := range all {
				all[i].cell, _ = all[i].cell.Prepare(dead)
				if i < left {
					all[i].cell, _ = all[i].cell.Accept(dead, []byte("left"))
				}
			}
			v, err := Propose(t.Context(), Node{1}, acceptors, []byte("mine"), rand.New(rand.NewPCG(1, 1)))
			if err != nil || string(v) != "left" && left >= 2 || string(v) != "left" && string(v) != "mine" {
				t.Fatalf("left at %d: %q, %v", left, v, err)
			}
		})
	}
}

func TestProposeWaitsForSlowDisks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, acceptors := memories(3, 1)
		for _, m := range all {
			m.slow = 5 * time.Second
		}
		v, err := Propose(t.Context(), Node{1}, acceptors, []byte("v"), rand.New(rand.NewPCG(1, 1)))
		if err != nil || string(v) != "v" {
			t.Fatalf("%q, %v", v, err)
		}
	})
}

func TestAnUndecidedProposalSaysWhetherItMayStillBeDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, acceptors := memories(3, 1)
		for _, m := range all {
			m.mute = true
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := Propose(ctx, Node{1}, acceptors, []byte("v"), rand.New(rand.NewPCG(1, 1)))
		var undecided *UndecidedError
		if !errors.As(err, &undecided) || !undecided.Sent {
			t.Fatal(err)
		}
	})
}

func TestProposeTakesADecisionInsteadOfAVote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, acceptors := memories(3, 1)
		all[0].cut, all[1].cut = true, true
		all[2].decided = []byte("known")
		v, err := Propose(t.Context(), Node{1}, acceptors, []byte("mine"), rand.New(rand.NewPCG(1, 1)))
		if err != nil || string(v) != "known" {
			t.Fatalf("%q, %v", v, err)
		}
	})
}
