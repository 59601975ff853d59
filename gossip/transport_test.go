package gossip

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// bare is a transport over a network in memory, without memberlist.
func bare(t *testing.T, n *memNet, number byte, oversized func(net.Addr, int)) *transport {
	t.Helper()
	cfg := memConfig(n, number)
	tr, err := newTransport(&cfg, nil, oversized)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestIncomingStreamsAreBoundedInNumberAndLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(1)
		tr := bare(t, n, 1, nil)
		client := n.host(2)
		dial := func() net.Conn {
			conn, err := client.DialTimeout(memAddr(1), time.Second)
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		var taken []net.Conn
		for range streamsMax {
			out := dial()
			defer drop(out)
			taken = append(taken, <-tr.StreamCh())
		}
		over := dial()
		defer drop(over)
		synctest.Wait()
		if _, err := over.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("one stream too many: %v", err)
		}
		drop(taken[0])
		long := dial()
		defer drop(long)
		in := <-tr.StreamCh()
		if _, err := long.Write(bytes.Repeat([]byte{1}, streamMax+10)); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(in)
		if len(got) != streamMax || !errors.Is(err, errStreamTooLong) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		if err := tr.Shutdown(); err != nil {
			t.Error(err)
		}
		if _, err := taken[5].Read(make([]byte, 1)); err == nil {
			t.Error("an open stream survives the shutdown")
		}
		if len(tr.conns) != 0 || tr.incoming != 0 {
			t.Errorf("%d streams are still counted", len(tr.conns))
		}
	})
}

// A stream is read once it has its turn: few of them can make memberlist take memory
// at one time, and those that say nothing hold up nobody.
func TestIncomingStreamsAreReadAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(1)
		tr := bare(t, n, 1, nil)
		client := n.host(2)
		type outcome struct {
			stream int
			err    error
		}
		outcomes := make(chan outcome, streamsMax)
		var out, in []net.Conn
		begin := func(say bool) {
			conn, err := client.DialTimeout(memAddr(1), time.Second)
			if err != nil {
				t.Fatal(err)
			}
			i := len(out)
			out, in = append(out, conn), append(in, <-tr.StreamCh())
			if say {
				if _, err := conn.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			go func() {
				_, err := in[i].Read(make([]byte, 1))
				outcomes <- outcome{i, err}
			}()
			synctest.Wait()
		}
		for range turnsMax {
			begin(false)
		}
		for range turnsMax {
			begin(true)
		}
		if len(outcomes) != turnsMax {
			t.Fatalf("%d of %d streams are read", len(outcomes), turnsMax)
		}
		var read int
		for range turnsMax {
			got := <-outcomes
			if got.err != nil {
				t.Fatalf("stream %d: %v", got.stream, got.err)
			}
			read = got.stream
		}
		begin(true) // waits
		begin(true) // waits longer than it may
		if len(outcomes) != 0 {
			t.Fatalf("more than %d streams are read", turnsMax)
		}
		drop(in[read])
		synctest.Wait()
		if got := <-outcomes; got.err != nil || got.stream != 2*turnsMax {
			t.Errorf("the next one: stream %d, %v", got.stream, got.err)
		}
		if got := <-outcomes; !errors.Is(got.err, errNoTurn) {
			t.Errorf("the last one: stream %d, %v", got.stream, got.err)
		}
		begin(true)
		if err := tr.Shutdown(); err != nil {
			t.Error(err)
		}
		for range turnsMax + 1 {
			if got := <-outcomes; got.err == nil {
				t.Errorf("stream %d is read after the end", got.stream)
			}
		}
		for _, conn := range out {
			drop(conn)
		}
		if len(tr.turns) != 0 {
			t.Errorf("%d turns are left", len(tr.turns))
		}
	})
}

func TestPacketsThatNoMemberSendsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(1)
		var dropped []int
		tr := bare(t, n, 1, func(_ net.Addr, size int) { dropped = append(dropped, size) })
		client := n.host(2)
		for _, size := range []int{packetMax + 1, 31_000, packetMax} {
			if _, err := client.WriteTo(make([]byte, size), memAddr(1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if p := <-tr.PacketCh(); len(p.Buf) != packetMax {
			t.Errorf("a packet of %d bytes came through", len(p.Buf))
		}
		if err := tr.Shutdown(); err != nil {
			t.Error(err)
		}
		if len(dropped) != 2 {
			t.Errorf("dropped %v", dropped)
		}
	})
}

func TestADialEndsWithTheTransport(t *testing.T) {
	cfg := config(1)
	tr, err := newTransport(&cfg, log.New(io.Discard, "", 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if conn, err := tr.DialAddressTimeout(memberlist.Address{Addr: "192.0.2.1:1"}, time.Hour); err == nil {
		drop(conn)
		t.Error("dialled after the shutdown")
	}
}
