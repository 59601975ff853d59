package rpc

import (
	"net"
	"runtime"
	"slices"
	"sync"
)

// outlet is the sending half of a connection. Frames wait in segments, and one
// goroutine writes all that has come together since its last write.
type outlet struct {
	mu      sync.Mutex // guards all but the channels
	waiting []*segment
	head    uint64 // number of waiting[0]; those before it went to the connection
	bytes   int    // waiting and being written
	parked  bool   // the writer waits for wake
	corked  bool   // frames wait until uncork
	dead    bool   // nothing is written any more
	failed  bool   // segment head-1 was written up to failedAt
	failAt  int
	writes  uint64        // writes that have begun
	writing bool          // one is under way
	wake    chan struct{} // of capacity 1
	drained chan struct{} // of capacity 1: a write, or all, has ended
}

func (o *outlet) init() {
	o.wake, o.drained = make(chan struct{}, 1), make(chan struct{}, 1)
}

// add queues the frame in s, which belongs to the outlet from now on. It gives
// the frame's place: the number of its segment, and the offset therein. mu is
// held.
func (o *outlet) add(s *segment) (number uint64, offset int) {
	o.bytes += len(s.b)
	if n := len(o.waiting); n > 0 {
		if last := o.waiting[n-1]; len(last.b)+len(s.b) <= segmentMax {
			offset = len(last.b)
			last.b = append(last.b, s.b...)
			s.free()
			return o.head + uint64(n-1), offset
		}
	}
	o.waiting = append(o.waiting, s)
	return o.head + uint64(len(o.waiting)-1), 0
}

// at gives the waiting frame at a place that add gave, or nil if it has gone to
// the connection. mu is held.
func (o *outlet) at(number uint64, offset int) []byte {
	if number < o.head {
		return nil
	}
	return o.waiting[number-o.head].b[offset:]
}

// left says that the connection may have got bytes of the frame at a place. mu
// is held.
func (o *outlet) left(number uint64, offset int) bool {
	if number >= o.head {
		return false
	}
	return !(o.failed && number == o.head-1 && offset >= o.failAt)
}

// unpark says whether the writer must be woken, with signal after mu has been
// unlocked. mu is held.
func (o *outlet) unpark() bool {
	if !o.parked || o.corked {
		return false
	}
	o.parked = false
	return true
}

func (o *outlet) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// cork keeps frames back until uncork, so that the answers to all requests that
// were read at once leave at once.
func (o *outlet) cork() {
	o.mu.Lock()
	o.corked = true
	o.mu.Unlock()
}

func (o *outlet) uncork() {
	o.mu.Lock()
	o.corked = false
	wake := len(o.waiting) > 0 && o.unpark()
	o.mu.Unlock()
	if wake {
		o.signal()
	}
}

// shut ends the writer. mu is held; signal must follow.
func (o *outlet) shut() { o.dead = true }

// write writes until the connection fails or the outlet is shut.
func (o *outlet) write(conn net.Conn) error {
	o.mu.Lock()
	for {
		for len(o.waiting) == 0 && !o.dead {
			o.parked = true
			o.mu.Unlock()
			<-o.wake
			runtime.Gosched() // whoever is about to send joins this write
			o.mu.Lock()
		}
		if o.dead {
			o.mu.Unlock()
			return net.ErrClosed
		}
		s := o.waiting[0]
		o.waiting = slices.Delete(o.waiting, 0, 1) // few, as each is large
		o.head++
		o.writes++
		o.writing = true
		o.mu.Unlock()

		n, err := conn.Write(s.b)

		o.mu.Lock()
		o.writing = false
		if err != nil {
			o.failed, o.failAt = true, n
			o.mu.Unlock()
			return err
		}
		o.bytes -= len(s.b)
		o.mu.Unlock()
		o.notify()
		s.free()
		o.mu.Lock()
	}
}

// notify tells whoever waits for a write to end, or for the outlet's end.
func (o *outlet) notify() {
	select {
	case o.drained <- struct{}{}:
	default:
	}
}

// progress gives the number of the write under way, or 0.
func (o *outlet) progress() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.writing {
		return 0
	}
	return o.writes
}
