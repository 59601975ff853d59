package heal

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/kithdb/kith/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a ring and who is away, as several healers see it.
type world struct {
	t    *testing.T
	mu   sync.Mutex // guards what follows
	r    *ring.Record
	away map[ring.NodeID]bool
	fail error // of proposals
	told []Death
}

func newWorld(t *testing.T, r *ring.Record) *world {
	return &world{t: t, r: r, away: map[ring.NodeID]bool{}}
}

func (w *world) Current() *ring.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.r
}

func (w *world) Propose(_ context.Context, change func(*ring.Record) (*ring.Record, error)) (*ring.Record, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return nil, w.fail
	}
	next, err := change(w.r)
	if err != nil || next == w.r {
		return next, err
	}
	if err := next.Follows(w.r); err != nil {
		w.t.Error(err)
	}
	w.r = next
	return next, nil
}

func (w *world) set(id ring.NodeID, away bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away[id] = away
}

func (w *world) state(id ring.NodeID) ring.MemberState { return w.Current().Member(id).State }

func (w *world) deaths() []Death {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Death(nil), w.told...)
}

// start runs healers of these members until the test ends.
func (w *world) start(heal bool, members ...int) []*Healer {
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	var all []*Healer
	for _, n := range members {
		h := New(Config{
			Self: id(n), Rings: w, After: time.Minute, Heal: heal, Seed: uint64(n),
			Away: func(m ring.NodeID) bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.away[m]
			},
			Command: func(_ context.Context, d Death) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.told = append(w.told, d)
				return errors.New("it cannot be reached either")
			},
			Logger: slog.New(slog.DiscardHandler),
		})
		all = append(all, h)
		running.Go(func() {
			if err := h.Run(ctx); err != nil {
				w.t.Error(err)
			}
		})
	}
	w.t.Cleanup(func() { cancel(); running.Wait() })
	return all
}

func TestADeadMemberIsGivenUpOnceAndTheNextOneLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, record(t, 7, 1, 3))
		w.start(true, 1, 3, 4)
		w.set(id(2), true)
		w.set(id(5), true)
		time.Sleep(55 * time.Second)
		if r := w.Current(); r.Epoch != 3 {
			t.Fatalf("after 55 s the ring has changed: %v", r.Changes(record(t, 7, 1, 3)))
		}
		time.Sleep(20 * time.Second)
		if w.state(id(2)) != ring.Leaving || w.state(id(8)) != ring.Active || w.state(id(5)) != ring.Active {
			t.Fatalf("after 75 s the dead are %v and %v, the standby %v", w.state(id(2)), w.state(id(5)), w.state(id(8)))
		}
		// Its slots do not move here, so the other one stays.
		time.Sleep(10 * time.Minute)
		if w.state(id(5)) != ring.Active {
			t.Error("the second one was given up beside the first")
		}
		if len(w.deaths()) != 6 {
			t.Errorf("three commands were told %d times of two deaths", len(w.deaths()))
		}
		for _, d := range w.deaths() {
			if d.Member.ID != id(2) && d.Member.ID != id(5) {
				t.Errorf("told of %v", d.Member.ID)
			}
		}
	})
}

func TestWhoComesBackInTimeStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, record(t, 5, 0, 3))
		w.start(true, 1)
		for range 5 {
			w.set(id(2), true)
			time.Sleep(50 * time.Second)
			w.set(id(2), false)
			time.Sleep(5 * time.Second)
		}
		if w.state(id(2)) != ring.Active || len(w.deaths()) != 0 {
			t.Errorf("a member that flaps is %v, and %d times called dead", w.state(id(2)), len(w.deaths()))
		}
	})
}

func TestNothingIsGivenUpUnlessAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, record(t, 5, 0, 3))
		w.start(false, 1)
		w.set(id(2), true)
		time.Sleep(time.Hour)
		if w.state(id(2)) != ring.Active {
			t.Errorf("the dead member is %v", w.state(id(2)))
		}
		if told := w.deaths(); len(told) != 1 || !told[0].First || told[0].Member.ID != id(2) {
			t.Errorf("the command was told %+v", told)
		}
		w.set(id(2), false)
		time.Sleep(time.Minute)
		w.set(id(2), true)
		time.Sleep(2 * time.Minute)
		if told := w.deaths(); len(told) != 2 {
			t.Errorf("of a second death the command was told %d times", len(told)-1)
		}
	})
}

func TestAMinoritySaysWhyItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, record(t, 5, 0, 3))
		h := w.start(true, 1)[0]
		for n := 2; n <= 4; n++ {
			w.set(id(n), true)
		}
		time.Sleep(5 * time.Minute)
		if r := w.Current(); r.Epoch != 2 {
			t.Errorf("a minority has changed the ring: epoch %d", r.Epoch)
		}
		if !strings.Contains(h.Waits(), "2 of 5 members") {
			t.Errorf("it waits because %q", h.Waits())
		}
		// One is back, and two are still away for long.
		w.set(id(3), false)
		time.Sleep(10 * time.Second)
		if w.state(id(2)) != ring.Leaving {
			t.Errorf("with a majority the dead member is %v; it waits because %q", w.state(id(2)), h.Waits())
		}
	})
}

func TestAFailedProposalIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, record(t, 5, 0, 3))
		w.fail = errors.New("no majority of the keepers answers")
		w.start(true, 1)
		w.set(id(2), true)
		time.Sleep(10 * time.Minute)
		w.mu.Lock()
		w.fail = nil
		w.mu.Unlock()
		time.Sleep(time.Minute)
		if w.state(id(2)) != ring.Leaving {
			t.Errorf("the dead member is %v", w.state(id(2)))
		}
	})
}

func TestShellTellsOfTheDeath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "told")
	d := Death{
		Member: ring.Member{ID: id(7), Name: "n7; rm -rf", Zone: "z 1"}, Addr: "127.0.0.1:1",
		Since: noon, First: true,
	}
	run := Shell(`echo "$KITH_MEMBER_ID $KITH_MEMBER_NAME $KITH_MEMBER_ZONE $KITH_MEMBER_ADDR $KITH_DEAD_SINCE $KITH_FIRST" >"` + path + `"`)
	if err := run(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(path)
	if want := id(7).String() + " n7; rm -rf z 1 127.0.0.1:1 2026-01-01T12:00:00Z 1\n"; err != nil || string(said) != want {
		t.Errorf("the command was told %q, want %q (%v)", said, want, err)
	}
}

func TestShellSaysWhatWentWrong(t *testing.T) {
	err := Shell(`i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo no such server >&2; exit 3`)(t.Context(), Death{})
	if err == nil || !strings.HasSuffix(err.Error(), "no such server") || !strings.Contains(err.Error(), "exit status 3") || len(err.Error()) > outputMax+100 {
		t.Errorf("a failed command: %.300v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Shell("sleep 60")(ctx, Death{}); err == nil {
		t.Error("a command whose time is over succeeds")
	}
}
