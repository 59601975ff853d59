package rpc

import (
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A peer that asks and never takes the answers is left unread after some, and
// cut off when it has taken nothing for a while.
func TestPeerThatTakesNoAnswersIsCutOff(t *testing.T) {
	var served atomic.Int64
	mux := NewMux(MuxConfig{})
	echo.HandleInline(mux, ClassClient, func(c *Call, req *blob) {
		served.Add(1)
		c.Reply(req)
	})
	bubble(t, TCPConfig{}, mux, func(t *testing.T, p *pipes, c *Client) {
		conn, err := p.dial(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := dialHandshake(conn, &hello{protocols: Protocols{1, 1}}, handshakeTime); err != nil {
			t.Fatal(err)
		}
		body, err := encode(nil, &blob{Data: make([]byte, 200<<10)})
		if err != nil {
			t.Fatal(err)
		}
		request := requestFrame(0, string(echo), time.Hour, body)
		began := time.Now()
		for err = nil; err == nil; {
			_, err = conn.Write(request)
		}
		if err != io.ErrClosedPipe {
			t.Errorf("writing ended with %v", err)
		}
		if waited := time.Since(began); waited < inspectEvery || waited > 3*inspectEvery {
			t.Errorf("cut off after %v", waited)
		}
		if n := served.Load(); n < 15 || n > 30 {
			t.Errorf("%d requests of 200 KiB were served without their answers being taken", n)
		}
		if err := callEcho(c, time.Second); err != nil {
			t.Errorf("another client: %v", err)
		}
		synctest.Wait()
		if requests, bytes := mux.InFlight(ClassClient); requests != 0 || bytes != 0 {
			t.Errorf("%d requests and %d bytes are still counted", requests, bytes)
		}
	})
}

// Answers beyond the bound, of requests that were taken before, break the
// connection off instead of filling the memory.
func TestAnswersThatWaitAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mux := NewMux(MuxConfig{})
		calls := make(chan *Call, 100)
		echo.HandleInline(mux, ClassClient, func(c *Call, _ *blob) { calls <- c })
		p := newPipes()
		server := serve(p, TCPConfig{Mux: mux, InFlightMax: 1 << 20})
		conn, err := p.dial(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dialHandshake(conn, &hello{protocols: Protocols{1, 1}}, handshakeTime); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if _, err := conn.Write(requestFrame(0, string(echo), time.Hour, []byte{0x90})); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			(<-calls).Reply(&blob{Data: make([]byte, 100<<10)})
		}
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := server.Conns(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
		server.Close()
	})
}
