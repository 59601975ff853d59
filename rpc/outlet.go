package rpc

import (
	"net"
	"runtime"
	"slices"
	"sync"
)

// outlet is the sending half of a connection. Frames wait in segments, and what
// has come together since the last write is written at once: by whoever ends a
// burst as far as that takes no waiting, and else by a goroutine.
type outlet struct {
	burst *Burst // nil for none

	mu       sync.Mutex // guards the rest but the channels
	direct   *direct    // writes without waiting; nil if the connection can't
	waiting  []*segment
	head     uint64   // number of waiting[0]; those before it went to the connection
	begun    *segment // segment head-1 if only begunAt bytes of it are written
	begunAt  int
	bytes    int   // waiting and being written
	parked   bool  // the writer waits for wake
	gathered bool  // the burst will flush
	dead     bool  // nothing is written any more
	fault    error // of a direct write; the writer returns it
	failed   bool  // segment head-1 was written up to failAt
	failAt   int
	writes   uint64        // writes that have begun
	writing  bool          // one is under way
	wake     chan struct{} // of capacity 1
	drained  chan struct{} // of capacity 1: a write, or all, has ended
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
	if !o.parked || o.writing || o.gathered {
		return false
	}
	if o.burst.gather(o) {
		o.gathered = true
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

// shut ends the writer. mu is held; signal must follow.
func (o *outlet) shut() { o.dead = true }

// unwritten says that something waits or is half written. mu is held.
func (o *outlet) unwritten() bool { return len(o.waiting) > 0 || o.begun != nil }

// next takes what is to be written next. mu is held; the caller writes it from at
// on and then calls wrote.
func (o *outlet) next() (s *segment, at int) {
	o.writes++
	o.writing = true
	if o.begun != nil {
		return o.begun, o.begunAt
	}
	s = o.waiting[0]
	o.waiting = slices.Delete(o.waiting, 0, 1) // few, as each is large
	o.head++
	return s, 0
}

// wrote takes how far the segment of next is written now. mu is held; if the
// segment is done it is the caller's to free.
func (o *outlet) wrote(s *segment, at int, err error) (done bool) {
	o.writing = false
	if err != nil {
		o.failed, o.failAt = true, at
		return false
	}
	if at < len(s.b) {
		o.begun, o.begunAt = s, at
		return false
	}
	o.begun = nil
	o.bytes -= len(s.b)
	return true
}

// write writes until the connection fails or the outlet is shut.
func (o *outlet) write(conn net.Conn) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for (!o.unwritten() || o.writing) && !o.dead && o.fault == nil {
			o.parked = true
			o.mu.Unlock()
			<-o.wake
			runtime.Gosched() // whoever is about to send joins this write
			o.mu.Lock()
		}
		switch {
		case o.fault != nil:
			return o.fault
		case o.dead:
			return net.ErrClosed
		}
		s, at := o.next()
		o.mu.Unlock()
		n, err := conn.Write(s.b[at:])
		o.mu.Lock()
		if !o.wrote(s, at+n, err) {
			return err
		}
		o.mu.Unlock()
		o.notify()
		s.free()
		o.mu.Lock()
	}
}

// flush sends what a burst has gathered: here, as far as that is wanted and takes
// no waiting, else by the writer.
func (o *outlet) flush(here bool) {
	o.mu.Lock()
	o.gathered = false
	here = here && o.direct != nil
	for here && o.parked && !o.writing && !o.dead && o.fault == nil && o.begun == nil && len(o.waiting) > 0 {
		s, _ := o.next()
		d := o.direct
		o.mu.Unlock()
		n, err := d.write(s.b)
		o.mu.Lock()
		o.fault = err
		if !o.wrote(s, n, err) {
			break
		}
		o.mu.Unlock()
		o.notify()
		s.free()
		o.mu.Lock()
	}
	wake := o.parked && !o.writing && (o.unwritten() || o.fault != nil)
	if wake {
		o.parked = false
	}
	o.mu.Unlock()
	if wake {
		o.signal()
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
