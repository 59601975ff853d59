package network_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/sim/network"
)

type message struct {
	Text string
	Data []byte
}

const echo rpc.Route[message, message] = "test.echo"

var errTest = errors.New("test error")

func init() { rpc.RegisterError(60001, errTest) }

func id(n byte) ring.NodeID { return ring.NodeID{n} }

func peer(n byte) rpc.Peer { return rpc.Peer{ID: id(n), Addr: fmt.Sprintf("10.0.0.%d:7000", n)} }

// world is a network with echo servers and one client.
type world struct {
	t *testing.T
	*network.Network
	client *network.Host
	served [10]atomic.Int64
	hold   time.Duration // before servers answer
	muxes  []*rpc.Mux
}

func start(t *testing.T, cfg network.Config) *world {
	w := &world{t: t, Network: network.New(cfg)}
	w.client = w.HostNamed("client", rpc.Peer{Addr: "10.0.1.1:1"}, nil)
	return w
}

func (w *world) stop() {
	w.Close()
	for _, m := range w.muxes {
		m.Close()
	}
}

func (w *world) server(n byte, p rpc.Peer) *network.Host {
	mux := rpc.NewMux(rpc.MuxConfig{})
	w.muxes = append(w.muxes, mux)
	echo.Handle(mux, rpc.ClassClient, func(ctx context.Context, from rpc.Peer, req *message) (*message, error) {
		w.served[n].Add(1)
		if w.hold > 0 {
			time.Sleep(w.hold)
		}
		if req.Text == "fail" {
			return nil, fmt.Errorf("as asked: %w", errTest)
		}
		return &message{Text: fmt.Sprintf("%d got %s from %s", n, req.Text, from.Addr), Data: req.Data}, nil
	})
	return w.HostNamed(fmt.Sprintf("s%d", n), p, mux)
}

func (w *world) call(to rpc.Peer, text string, limit time.Duration) (string, time.Duration, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	began := time.Now()
	resp, err := echo.Call(ctx, w.client, to, &message{Text: text})
	took := time.Since(began)
	if err != nil {
		return "", took, err
	}
	return resp.Text, took, nil
}

// bubble runs a test in virtual time and ends the world within it.
func bubble(t *testing.T, cfg network.Config, f func(t *testing.T, w *world)) {
	inBubble(t, func(t *testing.T) {
		w := start(t, cfg)
		defer w.stop()
		f(t, w)
	})
}

func TestRequestAndReplyCrossAsBytes(t *testing.T) {
	bubble(t, network.Config{Seed: 1}, func(t *testing.T, w *world) {
		w.server(1, peer(1))
		text, took, err := w.call(peer(1), "hello", time.Second)
		if err != nil || text != "1 got hello from 10.0.1.1:1" {
			t.Fatalf("%q, %v", text, err)
		}
		if took < 6*time.Millisecond || took > 20*time.Millisecond {
			t.Fatalf("dial, handshake and request took %v, want 6 crossings of 1 to 2 ms", took)
		}
		_, _, err = w.call(peer(1), "fail", time.Second)
		if !errors.Is(err, errTest) || rpc.NotSent(err) || !strings.Contains(err.Error(), "as asked") {
			t.Fatalf("a handler's error arrived as %v", err)
		}
	})
}

func TestManyBubblesOneAfterAnother(t *testing.T) {
	for seed := range uint64(3) {
		bubble(t, network.Config{Seed: seed}, func(t *testing.T, w *world) {
			w.server(1, peer(1))
			if _, _, err := w.call(peer(1), "x", time.Second); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestRefusedDialSaysAtOnceThatNothingLeft(t *testing.T) {
	bubble(t, network.Config{}, func(t *testing.T, w *world) {
		_, took, err := w.call(peer(1), "x", time.Minute)
		if !errors.Is(err, rpc.ErrUnreachable) || !rpc.NotSent(err) || took > 10*time.Millisecond {
			t.Fatalf("%v after %v", err, took)
		}
	})
}

func TestDialWithoutAnswerTimesOut(t *testing.T) {
	bubble(t, network.Config{}, func(t *testing.T, w *world) {
		w.server(1, peer(1)).PowerOff()
		_, took, err := w.call(peer(1), "x", time.Minute)
		if !errors.Is(err, rpc.ErrUnreachable) || !rpc.NotSent(err) || took < 3*time.Second || took > 3*time.Second+time.Millisecond {
			t.Fatalf("%v after %v", err, took)
		}
		_, took, err = w.call(peer(1), "x", time.Second)
		if !errors.Is(err, rpc.ErrNotSent) || !rpc.NotSent(err) || took > 1100*time.Millisecond {
			t.Fatalf("%v after %v", err, took)
		}
		w.server(1, peer(1))
		if _, _, err = w.call(peer(1), "x", 10*time.Second); err != nil {
			t.Fatalf("after the power is back: %v", err)
		}
	})
}

func TestWrongNodeAndWrongClusterAreRefused(t *testing.T) {
	bubble(t, network.Config{}, func(t *testing.T, w *world) {
		h := w.server(1, peer(1))
		_, _, err := w.call(rpc.Peer{ID: id(9), Addr: peer(1).Addr}, "x", time.Second)
		if !errors.Is(err, rpc.ErrWrongNode) || !rpc.NotSent(err) {
			t.Fatalf("another node's address: %v", err)
		}
		h.SetCluster(func() ring.ClusterID { return ring.ClusterID{1} })
		var ours ring.ClusterID
		w.client.SetCluster(func() ring.ClusterID { return ours })
		if _, _, err = w.call(rpc.Peer{Addr: peer(1).Addr}, "x", time.Second); err != nil {
			t.Fatalf("a newcomer: %v", err)
		}
		ours = ring.ClusterID{2}
		_, _, err = w.call(peer(1), "x", time.Second)
		if !errors.Is(err, rpc.ErrWrongCluster) || !rpc.NotSent(err) {
			t.Fatalf("another cluster: %v", err)
		}
		if w.served[1].Load() != 1 {
			t.Fatalf("%d requests served, want the newcomer's", w.served[1].Load())
		}
	})
}

// A cut after the connection stands leaves open what the peer has done: until
// the deadline, or until the connection breaks, whichever comes first.
func TestCutConnectionLeavesTheOutcomeOpen(t *testing.T) {
	for _, direction := range []string{"there", "back"} {
		bubble(t, network.Config{}, func(t *testing.T, w *world) {
			w.server(1, peer(1))
			if _, _, err := w.call(peer(1), "warm", time.Second); err != nil {
				t.Fatal(err)
			}
			if direction == "there" {
				w.Cut("client", "s1")
			} else {
				w.Cut("s1", "client")
			}
			_, took, err := w.call(peer(1), "x", 3*time.Second)
			if !errors.Is(err, rpc.ErrDeadline) || rpc.NotSent(err) || took < 3*time.Second || took > 3100*time.Millisecond {
				t.Fatalf("%s, first: %v after %v", direction, err, took)
			}
			_, took, err = w.call(peer(1), "x", time.Minute)
			if !errors.Is(err, rpc.ErrLost) || rpc.NotSent(err) || took > 7*time.Second {
				t.Fatalf("%s, second: %v after %v", direction, err, took)
			}
			_, _, err = w.call(peer(1), "x", time.Minute)
			if !errors.Is(err, rpc.ErrUnreachable) || !rpc.NotSent(err) {
				t.Fatalf("%s, third: %v", direction, err)
			}
			want := map[string]int64{"there": 1, "back": 3}[direction]
			if got := w.served[1].Load(); got != want {
				t.Fatalf("%s: %d requests arrived, want %d", direction, got, want)
			}
			w.Heal()
			if _, _, err := w.call(peer(1), "x", 10*time.Second); err != nil {
				t.Fatalf("%s, healed: %v", direction, err)
			}
		})
	}
}

func TestShortCutOnlyDelays(t *testing.T) {
	bubble(t, network.Config{}, func(t *testing.T, w *world) {
		w.server(1, peer(1))
		if _, _, err := w.call(peer(1), "warm", time.Second); err != nil {
			t.Fatal(err)
		}
		w.Partition([]string{"client"}, []string{"s1"})
		if w.Reaches("client", "s1") || w.Reaches("s1", "client") {
			t.Fatal("the cut does not show")
		}
		time.AfterFunc(2*time.Second, w.Heal)
		_, took, err := w.call(peer(1), "x", time.Minute)
		if err != nil || took < 2*time.Second || took > 4*time.Second {
			t.Fatalf("%v after %v", err, took)
		}
	})
}

// The deadline on the wire is the time that is left: a request that was held for
// minutes is served as if it were fresh.
func TestLateRequestArrivesWithItsPatienceUnspent(t *testing.T) {
	bubble(t, network.Config{}, func(t *testing.T, w *world) {
		w.server(1, peer(1))
		if _, _, err := w.call(peer(1), "warm", time.Second); err != nil {
			t.Fatal(err)
		}
		w.SetLink("client", "s1", network.Link{Late: 1, LateBy: 10 * time.Minute})
		_, _, err := w.call(peer(1), "x", time.Second)
		if !errors.Is(err, rpc.ErrDeadline) || rpc.NotSent(err) {
			t.Fatalf("got %v", err)
		}
		before := w.served[1].Load()
		time.Sleep(10 * time.Minute)
		if got := w.served[1].Load(); before != 1 || got != 2 {
			t.Fatalf("served %d, and %d in the end; want 1 and 2", before, got)
		}
	})
}

func TestLossDelaysAndResetBreaks(t *testing.T) {
	bubble(t, network.Config{Seed: 3, Link: network.Link{Latency: time.Millisecond, Loss: 0.3}}, func(t *testing.T, w *world) {
		w.server(1, peer(1))
		slow := 0
		for range 100 {
			_, took, err := w.call(peer(1), "x", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if took >= 200*time.Millisecond {
				slow++
			}
		}
		if slow < 30 || slow > 75 {
			t.Fatalf("%d of 100 calls met a lost packet, want about half", slow)
		}
		w.SetDefault(network.Link{Latency: time.Millisecond, Reset: 0.2})
		broken := 0
		before := w.served[1].Load()
		for range 100 {
			if _, _, err := w.call(peer(1), "x", time.Second); errors.Is(err, rpc.ErrLost) && !rpc.NotSent(err) {
				broken++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if served := w.served[1].Load() - before; broken < 15 || served <= int64(100-broken) {
			t.Fatalf("%d of 100 broke, %d were served: some that broke must have been", broken, served)
		}
	})
}

func TestDuplicatesOnlyWhereTheyAreBorne(t *testing.T) {
	for _, borne := range []bool{false, true} {
		cfg := network.Config{Link: network.Link{Duplicate: 0.5}, Duplicable: func(string) bool { return borne }}
		bubble(t, cfg, func(t *testing.T, w *world) {
			w.server(1, peer(1))
			for range 50 {
				if _, _, err := w.call(peer(1), "x", time.Second); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second) // the second ones come behind the answers
			if got := w.served[1].Load(); borne != (got > 60) || got < 50 {
				t.Fatalf("borne %v: 50 requests served %d times", borne, got)
			}
		})
	}
}

func TestBoundsOfBytes(t *testing.T) {
	bubble(t, network.Config{FrameMax: 2000, PendingMax: 3000}, func(t *testing.T, w *world) {
		w.server(1, peer(1))
		w.hold = time.Second
		var mu sync.Mutex
		var errs []error
		send := func(size int) {
			echo.Send(w.client, peer(1), &message{Data: make([]byte, size)}, time.Now().Add(time.Minute),
				rpc.CompleteFunc(func(_ []byte, err error) {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err)
				}))
		}
		send(2500)
		send(1900)
		send(1900)
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(errs) != 3 || !errors.Is(errs[0], rpc.ErrTooLarge) || !rpc.NotSent(errs[0]) ||
			!errors.Is(errs[1], rpc.ErrOverloaded) || !rpc.NotSent(errs[1]) || errs[2] != nil {
			t.Fatalf("got %v", errs)
		}
		_, _, err := w.call(peer(1), strings.Repeat("x", 1990), time.Minute)
		if !errors.Is(err, rpc.ErrTooLarge) || rpc.NotSent(err) {
			t.Fatalf("a reply over the bound: %v", err)
		}
	})
}

func TestBandwidthDelaysInProportion(t *testing.T) {
	bubble(t, network.Config{Link: network.Link{Bandwidth: 1000}}, func(t *testing.T, w *world) {
		w.server(1, peer(1))
		_, took, err := w.call(peer(1), strings.Repeat("x", 1000), time.Minute)
		if err != nil || took < 2*time.Second || took > 2200*time.Millisecond {
			t.Fatalf("1 kB each way at 1 kB/s: %v after %v", err, took)
		}
	})
}

func TestCloseEndsWhatIsOnItsWay(t *testing.T) {
	bubble(t, network.Config{}, func(t *testing.T, w *world) {
		w.server(1, peer(1))
		w.hold = time.Second
		time.AfterFunc(100*time.Millisecond, w.Close)
		_, took, err := w.call(peer(1), "x", time.Minute)
		if !errors.Is(err, rpc.ErrClosed) || rpc.NotSent(err) || took > 110*time.Millisecond {
			t.Fatalf("%v after %v", err, took)
		}
		if _, _, err = w.call(peer(1), "x", time.Minute); !errors.Is(err, rpc.ErrClosed) || !rpc.NotSent(err) {
			t.Fatalf("send over a closed network: %v", err)
		}
	})
}

// The same seed and the same calls give the same story.
func TestSameSeedSameStory(t *testing.T) {
	story := func(seed uint64) string {
		var b strings.Builder
		inBubble(t, func(t *testing.T) {
			began := time.Now()
			w := start(t, network.Config{Seed: seed,
				Link:  network.Link{Latency: time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.05, Reset: 0.02},
				Trace: func(e network.Event) { fmt.Fprintln(&b, e.At.Sub(began), e.What, e.From, e.To, e.Note) }})
			defer w.stop()
			for n := range byte(3) {
				w.server(n, peer(n+1))
			}
			for i := range 60 {
				if i == 20 {
					w.Cut("client", "s1")
				}
				if i == 40 {
					w.Heal()
				}
				w.call(peer(byte(i%3)+1), "x", time.Second)
			}
		})
		return b.String()
	}
	if a, b := story(5), story(5); a != b {
		t.Fatalf("one seed, two stories:\n%s\n---\n%s", a, b)
	}
	if story(5) == story(6) {
		t.Fatal("two seeds, one story")
	}
}
