package rpc

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// tcpPair gives both ends of a TCP connection.
func tcpPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// newOutlet gives an outlet whose writer runs on conn, and what that returned.
func newOutlet(conn net.Conn, burst *Burst) (*outlet, chan error) {
	o := &outlet{burst: burst, direct: newDirect(conn)}
	o.init()
	ended := make(chan error, 1)
	go func() { ended <- o.write(conn) }()
	return o, ended
}

// put queues a frame as connections do.
func put(o *outlet, id uint64, rest []byte) {
	s := newSegment()
	s.b = append(beginFrame(s.b, kindReply), rest...)
	finishFrame(s.b, id, restSum(s.b))
	o.mu.Lock()
	o.add(s)
	wake := o.unpark()
	o.mu.Unlock()
	if wake {
		o.signal()
	}
}

func end(t *testing.T, o *outlet, ended chan error) {
	t.Helper()
	o.mu.Lock()
	o.shut()
	o.mu.Unlock()
	o.signal()
	if err := <-ended; err != net.ErrClosed {
		t.Errorf("the writer ended with %v", err)
	}
}

// Frames arrive whole, and each sender's in its order, whoever writes them: those
// who end bursts, the writer, or one after the other in the middle of a frame.
func TestFramesOfBurstsArriveWholeAndInOrder(t *testing.T) {
	const senders, frames = 4, 400
	here, there := tcpPair(t)
	if err := here.(*net.TCPConn).SetWriteBuffer(16 << 10); err != nil { // full soon
		t.Fatal(err)
	}
	burst := new(Burst)
	o, ended := newOutlet(here, burst)
	var sending sync.WaitGroup
	for s := range uint64(senders) {
		sending.Go(func() {
			chance := rand.New(rand.NewPCG(s, 7))
			for n := uint64(0); n < frames; {
				inBurst := chance.IntN(4) > 0
				if inBurst {
					burst.Begin()
				}
				for range min(1+chance.Uint64N(5), frames-n) {
					size := chance.IntN(300)
					if chance.IntN(20) == 0 {
						size = chance.IntN(100 << 10)
					}
					rest := binary.BigEndian.AppendUint64(nil, n)
					put(o, s, append(rest, make([]byte, size)...))
					n++
				}
				if inBurst {
					burst.End()
				}
			}
		})
	}
	var next [senders]uint64
	r := frameReader{from: there, max: 1 << 20}
	for got := 0; got < senders*frames; {
		f, ok, err := r.next()
		if err == nil && !ok {
			err = r.fill()
		}
		if err != nil {
			t.Fatalf("after %d frames: %v", got, err)
		}
		if !ok {
			continue
		}
		if n := binary.BigEndian.Uint64(f.rest); n != next[f.id] {
			t.Fatalf("sender %d: frame %d came, not %d", f.id, n, next[f.id])
		}
		next[f.id]++
		got++
	}
	sending.Wait()
	end(t, o, ended)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes != 0 || o.unwritten() || o.writing {
		t.Errorf("%d bytes are left of all that was sent", o.bytes)
	}
}

// What ends a burst never waits for a peer, and what did not fit goes on when the
// peer takes it.
func TestEndOfABurstDoesNotWaitForThePeer(t *testing.T) {
	here, there := tcpPair(t)
	burst := new(Burst)
	o, ended := newOutlet(here, burst)
	const frames, size = 300, 60 << 10 // more than sockets hold
	for i := range uint64(frames) {
		burst.Begin()
		put(o, i, make([]byte, size))
		burst.End() // the test would hang here
	}
	all, err := io.CopyN(io.Discard, there, frames*(frameHeader+size))
	if err != nil {
		t.Fatalf("%d bytes came: %v", all, err)
	}
	end(t, o, ended)
}

// A connection that breaks in a burst's write ends as if the writer had seen it,
// and what may have left is known.
func TestBurstSeesTheEndOfTheConnection(t *testing.T) {
	here, there := tcpPair(t)
	burst := new(Burst)
	o, ended := newOutlet(here, burst)
	there.Close()
	for {
		select {
		case err := <-ended:
			if err == nil || err == net.ErrClosed {
				t.Errorf("the writer ended with %v", err)
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			if !o.failed || o.head == 0 || !o.left(o.head-1, 0) && o.failAt > 0 {
				t.Errorf("failed %v at %d of segment %d", o.failed, o.failAt, o.head)
			}
			return
		default:
		}
		burst.Begin()
		put(o, 1, make([]byte, 100))
		burst.End()
	}
}

// Nothing is sent on an idle connection within a burst, and all of it at the first end of any.
func TestFramesWaitForTheEndOfTheBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		burst := new(Burst)
		o, ended := newOutlet(here, burst)
		var reads []int
		reader := make(chan struct{})
		go func() {
			defer close(reader)
			b := make([]byte, 1<<16)
			for {
				n, err := there.Read(b)
				if err != nil {
					return
				}
				reads = append(reads, n)
			}
		}()
		synctest.Wait() // the writer has nothing to do
		burst.Begin()
		for i := range uint64(5) {
			put(o, i, make([]byte, 83))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(reads) != 0 {
			t.Errorf("%v bytes left within the burst", reads)
		}
		burst.Begin()
		put(o, 5, make([]byte, 83))
		burst.End()
		synctest.Wait()
		if len(reads) != 1 || reads[0] != 6*100 {
			t.Errorf("writes of %v bytes, want one of 600", reads)
		}
		burst.End()
		put(o, 6, make([]byte, 83))
		synctest.Wait()
		if len(reads) != 2 {
			t.Errorf("writes of %v bytes, want another one without a burst", reads)
		}
		end(t, o, ended)
		here.Close()
		<-reader
	})
}

// All connections of a burst get theirs, however many they are.
func TestBurstReachesEveryConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		burst := new(Burst)
		const conns = 3 * burstInline
		var got sync.WaitGroup
		burst.Begin()
		for range conns {
			here, there := net.Pipe()
			o, ended := newOutlet(here, burst)
			synctest.Wait() // the writer is parked
			put(o, 1, make([]byte, 83))
			got.Go(func() {
				if _, err := io.ReadFull(there, make([]byte, 100)); err != nil {
					t.Error(err)
				}
				end(t, o, ended)
				here.Close()
			})
		}
		burst.End()
		got.Wait()
	})
}
