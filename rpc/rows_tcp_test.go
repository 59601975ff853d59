package rpc_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// spoiler is a proxy that changes one bit of every so many bytes, either way.
type spoiler struct {
	net.Listener
	every  int
	spoilt atomic.Int64
	conns  atomic.Uint64
}

func newSpoiler(t *testing.T, to string, every int) *spoiler {
	s := &spoiler{every: every}
	s.Listener = between(t, to, s.pass)
	return s
}

func (s *spoiler) pass(in, out net.Conn) {
	var both sync.WaitGroup
	n := s.conns.Add(1)
	for way, ends := range [][2]net.Conn{{out, in}, {in, out}} {
		both.Go(func() {
			s.copy(ends[0], ends[1], rand.New(rand.NewPCG(n, uint64(way))))
			_ = in.Close()
			_ = out.Close()
		})
	}
	both.Wait()
}

func (s *spoiler) copy(to io.Writer, from io.Reader, chance *rand.Rand) {
	block := make([]byte, 4096)
	left := chance.IntN(s.every)
	for {
		n, err := from.Read(block)
		if n > 0 && left < n {
			block[left] ^= 1 << chance.IntN(8)
			s.spoilt.Add(1)
			left = n + chance.IntN(s.every)
		}
		left -= n
		if _, failed := to.Write(block[:n]); failed != nil || err != nil {
			return
		}
	}
}

// A link changes a bit now and then: every answer that comes is right, nothing that
// was not asked for arrives, nothing is done twice, and nothing that is said not to
// be sent was done. New connections take the place of those that were spoilt.
func TestFault08_ChangedBitsAreNeverTakenForAnything(t *testing.T) {
	w := start(t, "127.0.0.1:0", rpc.TCPConfig{})
	var mu sync.Mutex
	served := map[uint64]int{}
	const counted rpc.Route[number, number] = "test.counted"
	counted.HandleInline(w.mux, rpc.ClassClient, func(c *rpc.Call, req *number) {
		mu.Lock()
		served[req.N]++
		mu.Unlock()
		c.Reply(&number{N: 2 * req.N})
	})
	asked := bystander(t, w)
	proxy := newSpoiler(t, w.Addr(), 2000)
	to := rpc.Peer{ID: ring.NodeID{1}, Addr: proxy.Addr().String()}
	const first = 1 << 50
	var last atomic.Uint64
	last.Store(first)
	var done, lost atomic.Int64
	unsent := map[uint64]bool{} // by mu
	enough := func() bool { return done.Load() > 1000 && lost.Load() > 20 && proxy.spoilt.Load() > 50 }
	one := func(c *rpc.Client) error {
		n := last.Add(1)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		resp, err := counted.Call(ctx, c, to, &number{N: n})
		mu.Lock()
		defer mu.Unlock()
		times := served[n]
		switch {
		case err == nil && (resp.N != 2*n || times != 1):
			return fmt.Errorf("twice %d is %d, and it was asked %d times", n, resp.N, times)
		case err == nil:
			done.Add(1)
		case !rpc.NotSent(err):
			lost.Add(1)
		default:
			unsent[n] = true
		}
		return nil
	}
	var askers sync.WaitGroup
	var stop atomic.Bool
	for range 8 { // a changed length holds its connection up for some seconds
		c := newClient(t, rpc.TCPConfig{})
		askers.Go(func() {
			for !stop.Load() {
				if err := one(c); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	defer askers.Wait()
	defer stop.Store(true)
	waitFor(t, "many are answered and some are lost", enough)
	stop.Store(true)
	askers.Wait()
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d done, %d perhaps, %d not sent, %d bits changed", done.Load(), lost.Load(), len(unsent), proxy.spoilt.Load())
	for k, times := range served {
		if k <= first || k > last.Load() || times > 1 {
			t.Errorf("%d was asked %d times", k, times)
		}
		if unsent[k] {
			t.Errorf("%d was done, and was said not to be sent", k)
		}
	}
	if asked.Load() == 0 {
		t.Error("nobody else was served")
	}
}
