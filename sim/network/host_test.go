package network_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/sim/network"
)

func TestCrashBreaksConnectionsAndRestartHeals(t *testing.T) {
	lost, arrived := 0, 0
	for seed := range uint64(40) {
		bubble(t, network.Config{Seed: seed}, func(t *testing.T, w *world) {
			h := w.server(1, peer(1))
			w.hold = time.Second
			if _, _, err := w.call(peer(1), "warm", 5*time.Second); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(500*time.Millisecond, h.Crash)
			_, took, err := w.call(peer(1), "x", time.Minute)
			if !errors.Is(err, rpc.ErrLost) || rpc.NotSent(err) || took > 600*time.Millisecond {
				t.Fatalf("%v after %v", err, took)
			}
			lost++
			if w.served[1].Load() == 2 {
				arrived++
			}
			if _, _, err = w.call(peer(1), "x", time.Second); !rpc.NotSent(err) {
				t.Fatalf("dial of a crashed process: %v", err)
			}
			moved := rpc.Peer{ID: id(1), Addr: "10.0.0.99:7000"}
			w.server(1, moved)
			if _, _, err = w.call(moved, "x", 5*time.Second); err != nil {
				t.Fatalf("at its new address: %v", err)
			}
		})
	}
	if arrived != lost {
		t.Fatalf("%d of %d requests had arrived before the crash", arrived, lost)
	}
}

func TestRequestsOfACrashedProcessEndAndMayStillArrive(t *testing.T) {
	arrived := 0
	const runs = 40
	for seed := range uint64(runs) {
		bubble(t, network.Config{Seed: seed, Link: network.Link{Latency: 10 * time.Millisecond}}, func(t *testing.T, w *world) {
			w.server(1, peer(1))
			if _, _, err := w.call(peer(1), "warm", time.Second); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(5*time.Millisecond, w.client.Crash)
			_, _, err := w.call(peer(1), "x", time.Second)
			if !errors.Is(err, rpc.ErrLost) || rpc.NotSent(err) {
				t.Fatalf("got %v", err)
			}
			if _, _, err = w.call(peer(1), "x", time.Second); !rpc.NotSent(err) {
				t.Fatalf("send by a dead process: %v", err)
			}
			time.Sleep(time.Second)
			arrived += int(w.served[1].Load()) - 1
		})
	}
	if arrived < runs/4 || arrived > 3*runs/4 {
		t.Fatalf("%d of %d arrived, want about half", arrived, runs)
	}
}

func TestPausedHostHoldsEverythingUntilItWakes(t *testing.T) {
	bubble(t, network.Config{}, func(t *testing.T, w *world) {
		h := w.server(1, peer(1))
		if _, _, err := w.call(peer(1), "warm", time.Second); err != nil {
			t.Fatal(err)
		}
		h.Pause()
		if w.Reaches("client", "s1") {
			t.Fatal("a paused host can be reached")
		}
		_, _, err := w.call(peer(1), "x", 2*time.Second)
		if !errors.Is(err, rpc.ErrDeadline) || rpc.NotSent(err) {
			t.Fatalf("got %v", err)
		}
		if got := w.served[1].Load(); got != 1 {
			t.Fatalf("a paused host has served %d", got)
		}
		h.Resume()
		time.Sleep(time.Microsecond)
		if got := w.served[1].Load(); got != 2 {
			t.Fatalf("after waking it has served %d, want 2", got)
		}

		w.client.Pause()
		time.AfterFunc(time.Minute, w.client.Resume)
		_, took, err := w.call(peer(1), "x", 2*time.Minute)
		if err != nil || took < time.Minute {
			t.Fatalf("send while paused: %v after %v", err, took)
		}
		w.client.Pause()
		var outcome atomic.Value
		began := time.Now()
		echo.Send(w.client, peer(1), &message{}, began.Add(time.Second),
			rpc.CompleteFunc(func(_ []byte, err error) { outcome.Store(err) }))
		time.Sleep(time.Minute)
		if outcome.Load() != nil {
			t.Fatal("a paused process has noticed its deadline")
		}
		w.client.Resume()
		time.Sleep(time.Second)
		if err, _ := outcome.Load().(error); !rpc.NotSent(err) {
			t.Fatalf("a deadline that passed before anything left: %v", err)
		}
	})
}

// Whatever held a request when its process ended: it is completed, once.
func TestEveryRequestOfADeadProcessIsCompleted(t *testing.T) {
	for seed := range uint64(50) {
		bubble(t, network.Config{Seed: seed, StallTimeout: time.Second}, func(t *testing.T, w *world) {
			rng := rand.New(rand.NewPCG(seed, 1))
			server := w.server(1, peer(1))
			w.server(2, peer(2))
			w.hold = 500 * time.Millisecond
			completed := map[int]int{}
			var mu sync.Mutex
			for n := range 60 {
				to := peer(1 + byte(rng.IntN(3)))
				echo.Send(w.client, to, &message{}, time.Now().Add(time.Duration(rng.Int64N(int64(5*time.Second)))),
					rpc.CompleteFunc(func([]byte, error) {
						mu.Lock()
						defer mu.Unlock()
						completed[n]++
					}))
				time.Sleep(time.Duration(rng.Int64N(int64(100 * time.Millisecond))))
				switch rng.IntN(12) {
				case 0:
					w.client.Pause()
				case 1:
					w.client.Resume()
				case 2:
					w.Partition([]string{"client"}, []string{"s1"})
				case 3:
					w.Heal()
				case 4:
					server.Crash()
					server = w.server(1, peer(1))
				case 5:
					server.Pause()
				case 6:
					server.Resume()
				}
			}
			w.client.Crash()
			time.Sleep(time.Minute)
			mu.Lock()
			defer mu.Unlock()
			for n := range 60 {
				if completed[n] != 1 {
					t.Errorf("seed %d: request %d was completed %d times", seed, n, completed[n])
				}
			}
		})
	}
}
