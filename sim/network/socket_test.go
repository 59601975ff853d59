package network_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/sim/network"
)

// inbox keeps what a socket gets.
type inbox struct {
	mu      sync.Mutex
	got     []string
	streams chan net.Conn
	deaf    bool // refuses streams
}

func newInbox() *inbox { return &inbox{streams: make(chan net.Conn, 8)} }

func (b *inbox) Datagram(from string, body []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, from+" "+string(body))
}

func (b *inbox) Stream(c net.Conn) bool {
	if !b.deaf {
		b.streams <- c
	}
	return !b.deaf
}

func (b *inbox) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.got
	b.got = nil
	return got
}

// sockets is a network with one socket on each of n hosts h1, h2, ...
type sockets struct {
	*network.Network
	hosts []*network.Host
	socks []*network.Socket
	boxes []*inbox
}

func addrOf(i int) string { return fmt.Sprintf("10.0.0.%d:7946", i+1) }

func bind(t *testing.T, n int, cfg network.Config) *sockets {
	t.Helper()
	w := &sockets{Network: network.New(cfg)}
	t.Cleanup(w.Close)
	for i := range n {
		w.hosts, w.socks, w.boxes = append(w.hosts, nil), append(w.socks, nil), append(w.boxes, nil)
		w.up(t, i)
	}
	return w
}

// up starts host i, as a new process.
func (w *sockets) up(t *testing.T, i int) {
	t.Helper()
	w.hosts[i] = w.HostNamed(fmt.Sprintf("h%d", i+1), rpc.Peer{Addr: fmt.Sprintf("10.0.0.%d:7600", i+1)}, nil)
	w.boxes[i] = newInbox()
	s, err := w.hosts[i].Bind(addrOf(i), w.boxes[i])
	if err != nil {
		t.Fatal(err)
	}
	w.socks[i] = s
}

func (w *sockets) send(t *testing.T, from, to int, body string) {
	t.Helper()
	if err := w.socks[from].Send(addrOf(to), []byte(body)); err != nil {
		t.Fatal(err)
	}
}

// stream opens a stream from the first host to the second.
func (w *sockets) stream(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	c, err := w.socks[0].Dial(addrOf(1), 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return c, <-w.boxes[1].streams
}

func write(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("wrote %d bytes: %v", n, err)
	}
}

// read takes n bytes and says how long they took.
func read(t *testing.T, c net.Conn, n int) (string, time.Duration) {
	t.Helper()
	began := time.Now()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return string(b), time.Since(began)
}

func TestDatagramsObeyCutsOfTheirDirection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := bind(t, 2, network.Config{Seed: 1})
		w.Cut("h1", "h2")
		w.send(t, 0, 1, "there")
		w.send(t, 1, 0, "back")
		time.Sleep(time.Minute)
		w.Heal()
		time.Sleep(time.Minute)
		if got := w.boxes[1].take(); len(got) != 0 {
			t.Fatalf("across a cut came %q", got)
		}
		if got := w.boxes[0].take(); len(got) != 1 || got[0] != addrOf(1)+" back" {
			t.Fatalf("the way back brought %q", got)
		}
		w.send(t, 0, 1, "again")
		time.Sleep(time.Second)
		if got := w.boxes[1].take(); len(got) != 1 {
			t.Fatalf("after the cut came %q", got)
		}
		if c := w.Counts(); c.Datagrams != 3 || c.DatagramsLost != 1 {
			t.Fatalf("counts %+v", c)
		}
	})
}

func TestFault07_MutedLinkLosesDatagramsAndNothingElse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := bind(t, 2, network.Config{Seed: 1})
		w.Mute("h1", "h2")
		w.send(t, 0, 1, "lost")
		ours, theirs := w.stream(t)
		write(t, ours, "arrives")
		if got, _ := read(t, theirs, 7); got != "arrives" {
			t.Fatalf("the stream brought %q", got)
		}
		w.Unmute("h1", "h2")
		w.send(t, 0, 1, "heard")
		time.Sleep(time.Second)
		if got := w.boxes[1].take(); len(got) != 1 || !strings.HasSuffix(got[0], "heard") {
			t.Fatalf("came %q", got)
		}
		w.Mute("h1", "h2")
		w.Heal()
		w.send(t, 0, 1, "healed")
		time.Sleep(time.Second)
		if got := w.boxes[1].take(); len(got) != 1 {
			t.Fatalf("came %q", got)
		}
	})
}

func TestDatagramsAreLostDoubledReorderedAndLate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const sent = 1000
		w := bind(t, 2, network.Config{Seed: 1, Link: network.Link{
			Latency: time.Millisecond, Jitter: 50 * time.Millisecond, Loss: 0.2, Duplicate: 0.1, Late: 0.1, LateBy: 5 * time.Minute,
		}})
		for i := range sent {
			w.send(t, 0, 1, fmt.Sprint(i))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		soon := w.boxes[1].take()
		time.Sleep(6 * time.Minute)
		late := w.boxes[1].take()
		distinct, backwards, last := map[string]int{}, 0, -1
		for _, g := range soon {
			var n int
			fmt.Sscan(strings.Fields(g)[1], &n)
			if n < last {
				backwards++
			}
			last = n
		}
		for _, g := range append(soon, late...) {
			distinct[g]++
		}
		doubled := len(soon) + len(late) - len(distinct)
		if lost := sent - len(distinct); lost < 150 || lost > 250 || doubled < 50 || doubled > 120 || backwards < 100 || len(late) < 50 {
			t.Fatalf("of %d: %d lost, %d doubled, %d out of order, %d late", sent, lost, doubled, backwards, len(late))
		}
	})
}

func TestPausedHostSendsNothingAndReadsLaterWhatFits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := bind(t, 2, network.Config{Seed: 1})
		w.hosts[1].Pause()
		w.send(t, 1, 0, "from the paused")
		big := strings.Repeat("x", 1000)
		for range 300 {
			w.send(t, 0, 1, big)
		}
		time.Sleep(10 * time.Minute)
		if got := w.boxes[1].take(); len(got) != 0 {
			t.Fatalf("a paused host read %d datagrams", len(got))
		}
		w.hosts[1].Resume()
		time.Sleep(time.Second)
		if got := w.boxes[1].take(); len(got) != 212 { // 208 KiB
			t.Fatalf("after the pause it read %d datagrams", len(got))
		}
		if got := w.boxes[0].take(); len(got) != 0 {
			t.Fatalf("a paused host sent %q", got)
		}
		w.send(t, 0, 1, "more")
		time.Sleep(time.Second)
		if got := w.boxes[1].take(); len(got) != 1 {
			t.Fatalf("then it read %q", got)
		}
	})
}

func TestDatagramsOfACrashedProcessReachItsSuccessorOrNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := bind(t, 2, network.Config{Seed: 1})
		w.send(t, 0, 1, "old")
		old := w.boxes[1]
		w.hosts[1].Crash()
		time.Sleep(time.Second)
		w.up(t, 1)
		w.send(t, 0, 1, "new")
		time.Sleep(time.Second)
		if got := append(old.take(), w.boxes[1].take()...); len(got) != 1 || !strings.HasSuffix(got[0], "new") {
			t.Fatalf("came %q", got)
		}
		w.hosts[0].Crash()
		if err := w.socks[0].Send(addrOf(1), []byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("a crashed process sends: %v", err)
		}
	})
}

func TestAddressHasOneSocket(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := bind(t, 2, network.Config{Seed: 1})
		if _, err := w.hosts[0].Bind(addrOf(1), newInbox()); err == nil {
			t.Fatal("an address was bound twice")
		}
		w.socks[1].Close()
		if _, err := w.hosts[0].Bind(addrOf(1), newInbox()); err != nil {
			t.Fatal(err)
		}
		w.hosts[0].Crash()
		if _, err := w.hosts[0].Bind("10.0.0.9:7946", newInbox()); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("a crashed process binds: %v", err)
		}
	})
}

func TestStreamsKeepBytesInOrderOverBadLinks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := bind(t, 2, network.Config{Seed: 1, Link: network.Link{
			Latency: time.Millisecond, Jitter: 100 * time.Millisecond, Loss: 0.2,
		}})
		ours, theirs := w.stream(t)
		var want strings.Builder
		for i := range 200 {
			text := fmt.Sprintf("%d,", i)
			want.WriteString(text)
			write(t, ours, text)
		}
		if err := ours.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(theirs)
		if err != nil || string(got) != want.String() {
			t.Fatalf("%v: got %q", err, got)
		}
		if _, err := ours.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("a closed stream takes bytes: %v", err)
		}
	})
}

func TestStreamsAreHeldByCutsAndPausesUntilTheReadersDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := bind(t, 2, network.Config{Seed: 1})
		ours, theirs := w.stream(t)
		hold := func(what string, begin, end func()) {
			begin()
			write(t, ours, "hello")
			if err := theirs.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			_, err := theirs.Read(make([]byte, 1))
			var timeout net.Error
			if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Fatalf("%s: the deadline gave %v", what, err)
			}
			if err := theirs.SetReadDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(time.Minute, end)
			if got, took := read(t, theirs, 5); got != "hello" || took < time.Minute || took > time.Minute+2*time.Second {
				t.Fatalf("%s: %q after %v", what, got, took)
			}
		}
		hold("cut", func() { w.Cut("h1", "h2") }, w.Heal)
		hold("paused reader", w.hosts[1].Pause, w.hosts[1].Resume)
		hold("paused writer", w.hosts[0].Pause, w.hosts[0].Resume)
	})
}

func TestDialsAreRefusedOrTimeOutAsOverTCP(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := bind(t, 2, network.Config{Seed: 1})
		dial := func(what, addr string, want error, least, most time.Duration) {
			t.Helper()
			began := time.Now()
			_, err := w.socks[0].Dial(addr, 3*time.Second)
			if took := time.Since(began); !errors.Is(err, want) || took < least || took > most {
				t.Fatalf("%s: %v after %v", what, err, took)
			}
			var op *net.OpError
			if !errors.As(err, &op) || op.Op != "dial" || op.Net != "tcp" {
				t.Fatalf("%s: %v is no dial error", what, err)
			}
		}
		dial("nobody there", "10.9.9.9:1", syscall.ECONNREFUSED, time.Millisecond, 4*time.Millisecond)
		for what, cut := range map[string]func(){
			"cut there":   func() { w.Cut("h1", "h2") },
			"cut back":    func() { w.Cut("h2", "h1") },
			"paused peer": w.hosts[1].Pause,
		} {
			cut()
			dial(what, addrOf(1), os.ErrDeadlineExceeded, 3*time.Second, 3*time.Second)
			w.Heal()
			w.hosts[1].Resume()
		}
		w.Cut("h1", "h2")
		time.AfterFunc(1500*time.Millisecond, w.Heal)
		if c, err := w.socks[0].Dial(addrOf(1), 3*time.Second); err != nil {
			t.Fatalf("a short cut ended the dial: %v", err)
		} else {
			c.Close()
		}
		w.hosts[1].PowerOff()
		dial("no power", addrOf(1), os.ErrDeadlineExceeded, 3*time.Second, 3*time.Second)
		w.up(t, 1)
		w.hosts[1].Crash()
		dial("crashed", addrOf(1), syscall.ECONNREFUSED, time.Millisecond, 4*time.Millisecond)
		time.AfterFunc(time.Second, w.socks[0].Close)
		w.hosts[1].PowerOff()
		w.Cut("h1", "h2")
		dial("closed meanwhile", addrOf(1), net.ErrClosed, time.Second, time.Second)
	})
}

func TestStreamsEndWithTheirProcess(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := bind(t, 2, network.Config{Seed: 1})
		ends := func(what string, end func(), want error, limit time.Duration) {
			t.Helper()
			ours, theirs := w.stream(t)
			time.AfterFunc(time.Second, end)
			if err := ours.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, err := ours.Read(make([]byte, 1))
			if took := time.Since(began); !errors.Is(err, want) || took > limit {
				t.Fatalf("%s: the peer saw %v after %v", what, err, took)
			}
			if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Fatalf("%s: its own end saw %v", what, err)
			}
			ours.Close()
			w.up(t, 1)
		}
		ends("crash", func() { w.hosts[1].Crash() }, syscall.ECONNRESET, 2*time.Second)
		ends("power cut", func() { w.hosts[1].PowerOff() }, os.ErrDeadlineExceeded, 20*time.Second)
		ends("socket closed", func() { w.socks[1].Close() }, syscall.ECONNRESET, 2*time.Second)
		w.boxes[1].deaf = true
		c, err := w.socks[0].Dial(addrOf(1), 3*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("a stream that nobody took gave %v", err)
		}
		c.Close()
	})
}

func TestStreamsBreakWhereLinksReset(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := bind(t, 2, network.Config{Seed: 1})
		ours, theirs := w.stream(t)
		w.SetLink("h1", "h2", network.Link{Latency: time.Millisecond, Reset: 0.5})
		for range 100 {
			if _, err := ours.Write([]byte("x")); err != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		for _, c := range []net.Conn{ours, theirs} {
			if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("after a reset: %v", err)
			}
		}
	})
}

// Everything ends with the network, also what waits in it.
func TestSocketsEndWithTheNetwork(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := bind(t, 2, network.Config{Seed: 1})
		_, theirs := w.stream(t)
		w.Cut("h1", "h2")
		time.AfterFunc(time.Second, w.Close)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := w.socks[0].Dial(addrOf(1), time.Hour); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the dial gave %v", err)
			}
		})
		if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the read gave %v", err)
		}
		wg.Wait()
		if err := w.socks[0].Send(addrOf(1), nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the send gave %v", err)
		}
	})
}
