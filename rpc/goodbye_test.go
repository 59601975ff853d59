package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// speaker is one end of a connection whose frames a test writes and reads itself.
type speaker struct {
	t *testing.T
	net.Conn
	in frameReader
}

// dialBy shakes hands with a server, and leaves the rest to the test.
func dialBy(t *testing.T, p *pipes) *speaker {
	conn, err := p.dial(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dialHandshake(conn, &hello{protocols: Protocols{1, 1}}, handshakeTime); err != nil {
		t.Fatal(err)
	}
	return speak(t, conn)
}

// acceptBy does so with a client that dials.
func acceptBy(t *testing.T, p *pipes) *speaker {
	conn := <-p.accepts
	if _, err := listenHandshake(conn, &hello{protocols: Protocols{1, 1}, node: server1.ID}, anybody); err != nil {
		t.Fatal(err)
	}
	return speak(t, conn)
}

func speak(t *testing.T, conn net.Conn) *speaker {
	return &speaker{t: t, Conn: conn, in: frameReader{from: conn, max: 1 << 20}}
}

// write sends a frame.
func (s *speaker) write(kind byte, id uint64, rest []byte) {
	s.t.Helper()
	b := append(beginFrame(nil, kind), rest...)
	finishFrame(b, id, restSum(b))
	if _, err := s.Write(b); err != nil {
		s.t.Error(err)
	}
}

// ask sends a request.
func (s *speaker) ask(id uint64) {
	s.t.Helper()
	body, err := AppendMessage(nil, &blob{Data: []byte("x")})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.Write(requestFrame(id, string(echo), time.Minute, body)); err != nil {
		s.t.Error(err)
	}
}

// read takes the next frame; its kind is 255 at the end.
func (s *speaker) read() frame {
	for {
		f, ok, err := s.in.next()
		if ok {
			return f
		}
		if err == nil {
			err = s.in.fill()
		}
		if err != nil {
			return frame{kind: 255}
		}
	}
}

// want reads a frame of a kind.
func (s *speaker) want(kind byte, id uint64) frame {
	s.t.Helper()
	f := s.read()
	if f.kind != kind || f.id != id {
		s.t.Errorf("a frame of kind %d and id %d, want %d and %d", f.kind, f.id, kind, id)
	}
	return f
}

// wantRefusal reads the answer that nothing was done, because of want.
func (s *speaker) wantRefusal(id uint64, want error) {
	s.t.Helper()
	f := s.want(kindFailure, id)
	if err := ParseError(f.rest); !NotSent(err) || !errors.Is(err, want) {
		s.t.Errorf("request %d: %v", id, err)
	}
}

// serving runs f with a server whose echoes f answers.
func serving(t *testing.T, f func(t *testing.T, p *pipes, s *Server, calls chan *Call)) {
	synctest.Test(t, func(t *testing.T) {
		mux := NewMux(MuxConfig{})
		calls := make(chan *Call, 100)
		echo.HandleInline(mux, ClassClient, func(c *Call, _ *blob) { calls <- c })
		p := newPipes()
		server := serve(p, TCPConfig{Self: server1, Mux: mux})
		f(t, p, server, calls)
		server.Close()
	})
}

// closing begins to close a server, and says how long that took.
func closing(s *Server) (took chan time.Duration) {
	took = make(chan time.Duration, 1)
	began := time.Now()
	go func() {
		s.Close()
		took <- time.Since(began)
	}()
	synctest.Wait()
	return took
}

// What the server has taken is answered behind the goodbye, what crosses it is refused,
// and the dialer's end is the server's.
func TestRequestsThatCrossAGoodbyeAreRefused(t *testing.T) {
	serving(t, func(t *testing.T, p *pipes, s *Server, calls chan *Call) {
		d := dialBy(t, p)
		d.ask(0)
		call := <-calls
		took := closing(s)
		d.want(kindGoodbye, goodbyeID)
		d.ask(1)
		d.wantRefusal(1, ErrEnding)
		time.Sleep(goodbyeTime / 4)
		call.Reply(&blob{})
		d.want(kindReply, 0)
		d.ask(2)
		d.wantRefusal(2, ErrEnding)
		_ = d.Close()
		if took := <-took; took != goodbyeTime/4 {
			t.Errorf("the server waited for %v after all had left", took)
		}
		if len(calls) > 0 {
			t.Error("a request was taken after the goodbye")
		}
	})
}

// A dialer of before there was a goodbye goes on asking: it is refused, and the server
// ends in time.
func TestWhoDoesNotKnowAGoodbyeIsRefusedForAWhile(t *testing.T) {
	serving(t, func(t *testing.T, p *pipes, s *Server, calls chan *Call) {
		d := dialBy(t, p)
		took := closing(s)
		d.want(kindGoodbye, goodbyeID)
		for id := range uint64(9) {
			time.Sleep(goodbyeTime / 10)
			d.ask(id)
			d.wantRefusal(id, ErrEnding)
		}
		if d.want(255, 0); len(calls) > 0 {
			t.Error("a request was taken after the goodbye")
		}
		if took := <-took; took != goodbyeTime {
			t.Errorf("the server ended after %v", took)
		}
	})
}

// Who is shaking hands when a server ends is told, or cut off, before it may send.
func TestNobodyIsLetInBehindAGoodbye(t *testing.T) {
	serving(t, func(t *testing.T, p *pipes, s *Server, _ chan *Call) {
		conn, err := p.dial(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		block := appendHandshake(nil, &hello{protocols: Protocols{1, 1}})
		if _, err := conn.Write(block[:len(block)/2]); err != nil {
			t.Fatal(err)
		}
		if took := <-closing(s); took != 0 {
			t.Errorf("the server waited for %v", took)
		}
		if _, err := readHandshake(conn); err == nil {
			t.Error("it was let in")
		}
		c := newServerConn(s, conn, &hello{}, &hello{})
		if err := s.admit(c); !errors.Is(err, ErrEnding) {
			t.Errorf("whose introduction was read just then: %v", err)
		}
	})
}

// A frame of a kind that a server does not know is answered by name, and breaks nothing.
func TestFault28_FramesOfUnknownKindAreAnswered(t *testing.T) {
	serving(t, func(t *testing.T, p *pipes, _ *Server, calls chan *Call) {
		d := dialBy(t, p)
		for kind := 2; kind < 256; kind++ {
			d.write(byte(kind), uint64(kind), []byte("whatever"))
			d.wantRefusal(uint64(kind), ErrUnknownRoute)
		}
		d.ask(7)
		(<-calls).Reply(&blob{})
		d.want(kindReply, 7)
		_ = d.Close()
	})
}

// asking runs f with a client whose server is the test.
func asking(t *testing.T, f func(t *testing.T, p *pipes, ask func(size int) chan error)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		client := newClient(TCPConfig{}, p.dial)
		defer client.Close()
		f(t, p, func(size int) chan error {
			done := make(chan error, 1)
			echo.Send(client, server1, &blob{Data: make([]byte, size)}, time.Now().Add(time.Minute), CompleteFunc(func(_ []byte, err error) { done <- err }))
			return done
		})
	})
}

// echoed is the body of an answer.
func echoed() []byte {
	b, err := AppendMessage(nil, &blob{})
	if err != nil {
		panic(err)
	}
	return b
}

// A caller that is told goodbye waits for its answers, then closes; what it asks
// meanwhile goes over a new connection.
func TestCallersLeaveAConnectionThatSaysGoodbye(t *testing.T) {
	asking(t, func(t *testing.T, p *pipes, ask func(int) chan error) {
		first, second := ask(1), ask(1)
		s := acceptBy(t, p)
		a, b := s.read().id, s.read().id
		s.write(kindGoodbye, goodbyeID, []byte("and a word that nobody knows"))
		s.write(kindGoodbye, goodbyeID, nil)
		synctest.Wait()
		third := ask(1)
		anew := acceptBy(t, p)
		anew.write(kindReply, anew.read().id, echoed())
		if err := <-third; err != nil {
			t.Errorf("over a new connection: %v", err)
		}
		s.write(kindReply, b, echoed())
		if err := <-second; err != nil {
			t.Errorf("answered behind the goodbye: %v", err)
		}
		s.write(kindFailure, a, appendError(nil, errGoodbye, true))
		if err := <-first; !NotSent(err) || !errors.Is(err, ErrEnding) {
			t.Errorf("refused behind the goodbye: %v", err)
		}
		s.want(255, 0)
		fourth := ask(1)
		anew.write(kindReply, anew.read().id, echoed())
		if err := <-fourth; err != nil {
			t.Error(err)
		}
	})
}

// A connection without a request ends with the goodbye.
func TestIdleConnectionsEndWithTheGoodbye(t *testing.T) {
	asking(t, func(t *testing.T, p *pipes, ask func(int) chan error) {
		only := ask(1)
		s := acceptBy(t, p)
		s.write(kindReply, s.read().id, echoed())
		if err := <-only; err != nil {
			t.Fatal(err)
		}
		s.write(kindGoodbye, goodbyeID, nil)
		s.want(255, 0)
	})
}

// What waits behind a goodbye to be sent has not left, and says so at once.
func TestWhatHasNotLeftIsTakenBackAtAGoodbye(t *testing.T) {
	asking(t, func(t *testing.T, p *pipes, ask func(int) chan error) {
		var all []chan error
		for range 10 {
			all = append(all, ask(bulkSize-100)) // one frame a segment
		}
		s := acceptBy(t, p)
		synctest.Wait() // the first is being written, to nobody who reads
		s.write(kindGoodbye, goodbyeID, nil)
		synctest.Wait()
		for i, done := range all[1:] {
			select {
			case err := <-done:
				if !NotSent(err) || !errors.Is(err, ErrUnreachable) {
					t.Errorf("request %d: %v", i+1, err)
				}
			default:
				t.Errorf("request %d still waits", i+1)
			}
		}
		s.write(kindReply, s.want(kindRequest, 0).id, echoed())
		if err := <-all[0]; err != nil {
			t.Error(err)
		}
		s.want(255, 0)
	})
}

// Requests that a peer has taken, and never answers, end by their deadlines, and the
// connection with the last of them; or with the peer's.
func TestPromisesOfAPeerThatHasSaidGoodbyeEnd(t *testing.T) {
	for _, breaks := range []bool{false, true} {
		asking(t, func(t *testing.T, p *pipes, ask func(int) chan error) {
			done := ask(1)
			s := acceptBy(t, p)
			s.read()
			s.write(kindGoodbye, goodbyeID, nil)
			want := ErrDeadline
			if breaks {
				_ = s.Close()
				want = ErrLost
			}
			if err := <-done; !errors.Is(err, want) || NotSent(err) {
				t.Errorf("breaks %v: %v", breaks, err)
			}
			if !breaks {
				s.want(255, 0)
			}
		})
	}
}

// A client may be closed while it waits for the last answers of those who left it.
func TestClientsCloseWhileTheyLeave(t *testing.T) {
	var lost atomic.Int32
	asking(t, func(t *testing.T, p *pipes, ask func(int) chan error) {
		done := ask(1)
		s := acceptBy(t, p)
		s.read()
		s.write(kindGoodbye, goodbyeID, nil)
		synctest.Wait()
		go func() {
			if err := <-done; errors.Is(err, ErrLost) && errors.Is(err, ErrClosed) {
				lost.Add(1)
			}
		}()
	})
	if lost.Load() != 1 {
		t.Error("the request was not completed as lost")
	}
}

// Answers of any kind and id, in any order: every request is completed once, and nothing
// panics.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{kindReply, 0, kindGoodbye, 255, kindFailure, 1})
	f.Add([]byte{kindGoodbye, 255, kindGoodbye, 255, kindReply, 0, kindReply, 0})
	f.Add([]byte{kindGoodbye, 0, 9, 1, kindSkip, 2, kindRequest, 3})
	f.Fuzz(func(t *testing.T, script []byte) {
		ours, theirs := net.Pipe()
		dialed := make(chan struct{}, 1)
		dialed <- struct{}{}
		client := newClient(TCPConfig{}, func(context.Context, string) (net.Conn, error) {
			select {
			case <-dialed:
				return ours, nil
			default:
				return nil, io.ErrUnexpectedEOF
			}
		})
		const requests = 4
		done := make(chan error, 2*requests)
		for range requests {
			echo.Send(client, server1, &blob{}, time.Now().Add(time.Minute), CompleteFunc(func(_ []byte, err error) { done <- err }))
		}
		if _, err := listenHandshake(theirs, &hello{protocols: Protocols{1, 1}, node: server1.ID}, anybody); err != nil {
			t.Fatal(err)
		}
		var reader sync.WaitGroup
		reader.Go(func() { _, _ = io.Copy(io.Discard, theirs) }) // what the client sends is of no interest
		var stream []byte
		for i := 0; i+1 < len(script); i += 2 {
			id := uint64(script[i+1])
			if id == 255 {
				id = goodbyeID
			}
			b := append(beginFrame(nil, script[i]), script[i+1:]...)
			finishFrame(b, id, restSum(b))
			stream = append(stream, b...)
		}
		_, _ = theirs.Write(stream)
		_ = theirs.Close()
		client.Close()
		reader.Wait()
		if len(done) != requests {
			t.Fatalf("%d of %d requests were completed", len(done), requests)
		}
	})
}
