package client_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// onlyOneSeemsUp gives the one node that a client holds for alive: the others were away,
// and have come back this moment.
func (w *world) onlyOneSeemsUp(t *testing.T, c *client.Client) (last *far) {
	t.Helper()
	last = w.homes("k")[2]
	for _, n := range w.nodes {
		if n != last {
			n.host.Crash()
		}
	}
	time.Sleep(10 * time.Second) // they are probed every two seconds by now
	if _, err := c.Put(ctx, []byte("k"), nil); err != nil {
		t.Fatal(err)
	}
	for i, n := range w.nodes {
		if n != last {
			w.restart(i, n.peer.Addr)
		}
	}
	return last
}

func TestNodesThatSeemDownAreTheLastResort(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		last := w.onlyOneSeemsUp(t, c)
		last.host.Crash()
		time.Sleep(50 * time.Millisecond)
		if _, err := c.Put(ctx, []byte("k"), nil); err != nil {
			t.Fatalf("two are back, and not known to be: %v", err)
		}
	})
}

// A node that is about to end refuses what comes, and says nothing of the others by it.
func TestANodeThatEndsIsPassedOver(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		last := w.onlyOneSeemsUp(t, c)
		last.mux.Close()
		if done, err := c.Put(ctx, []byte("k"), nil); err != nil || done.Receipt.Coordinator == last.id {
			t.Errorf("two are back, and not known to be: %v", err)
		}
		for _, n := range w.nodes {
			n.mux.Close()
		}
		if _, err := c.Put(ctx, []byte("k"), nil); !errors.Is(err, client.ErrUnavailable) || errors.Is(err, client.ErrClosed) || !client.Refused(err) {
			t.Errorf("all end: %v", err)
		}
	})
}

func TestWhatANodeSaysOfOthersDoesNotCountAgainstIt(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		home := w.homes("k")[0]
		home.set(func(n *far) { n.refuse = always(rpc.ErrUnreachable) })
		if _, err := c.Put(ctx, []byte("k"), nil); !client.Unknown(err) {
			t.Fatalf("got %v", err)
		}
		home.set(func(n *far) { n.refuse = nil })
		done, err := c.Put(ctx, []byte("k"), nil)
		if err != nil || done.Receipt.Coordinator != home.id {
			t.Fatalf("got %v, %v", done.Receipt.Coordinator, err)
		}
	})
}

func TestWriteLostOnTheWayIsUnknownAndSentOnce(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		home := w.homes("k")[0]
		home.set(func(n *far) { n.swallow = true })
		failed := make(chan error)
		go func() {
			_, err := c.Put(ctx, []byte("k"), []byte("v"))
			failed <- err
		}()
		synctest.Wait()
		time.Sleep(20 * time.Millisecond)
		home.host.Crash()
		if err := <-failed; !client.Unknown(err) || client.Refused(err) {
			t.Fatalf("got %v", err)
		}
		if n := w.totalPuts(); n != 1 {
			t.Fatalf("sent %d times", n)
		}
	})
}

func TestWriteToNobodyIsRefused(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		for _, n := range w.nodes {
			n.host.Crash()
		}
		begun := time.Now()
		_, err := c.Put(ctx, []byte("k"), nil)
		if !errors.Is(err, client.ErrUnavailable) || !client.Refused(err) {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(begun); took > time.Second {
			t.Fatalf("refused after %v", took)
		}
	})
}

func TestReadGoesOnElsewhere(t *testing.T) {
	for name, hurt := range map[string]func(*far){
		"crashed": func(n *far) { n.host.Crash() },
		"paused":  func(n *far) { n.host.Pause() },
		"power":   func(n *far) { n.host.PowerOff() },
		"refuses": func(n *far) { n.set(func(n *far) { n.refuse = always(api.ErrStorage) }) },
		"strange": func(n *far) { n.set(func(n *far) { n.refuse = always(errors.New("strange")) }) },
		"deaf":    func(n *far) { n.set(func(n *far) { n.swallow = true }) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 3, func(t *testing.T, w *world) {
				c := w.dial()
				defer c.Close()
				if _, err := c.Put(ctx, []byte("k"), []byte("v")); err != nil {
					t.Fatal(err)
				}
				hurt(w.homes("k")[0])
				begun := time.Now()
				got, err := c.Get(ctx, []byte("k"))
				if err != nil || string(got.Value) != "v" {
					t.Fatalf("got %q, %v", got.Value, err)
				}
				if took := time.Since(begun); took > 1500*time.Millisecond {
					t.Fatalf("took %v", took)
				}
			})
		})
	}
}

func TestNodeThatHangsIsAvoidedUntilItAnswers(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		home := w.homes("k")[0]
		if _, err := c.Put(ctx, []byte("k"), []byte("1")); err != nil {
			t.Fatal(err)
		}
		home.host.Pause()
		stuck := make(chan error)
		go func() {
			_, err := c.Put(ctx, []byte("k"), []byte("2"))
			stuck <- err
		}()
		time.Sleep(time.Second)
		begun := time.Now()
		done, err := c.Put(ctx, []byte("k"), []byte("3"))
		if err != nil || done.Receipt.Coordinator == home.id {
			t.Fatalf("got %v, %v", done.Receipt.Coordinator, err)
		}
		if took := time.Since(begun); took > 50*time.Millisecond {
			t.Fatalf("took %v", took)
		}
		if err := <-stuck; !client.Unknown(err) {
			t.Fatalf("the write at the paused node: %v", err)
		}
		home.host.Resume()
		time.Sleep(5 * time.Second)
		done, err = c.Put(ctx, []byte("k"), []byte("4"))
		if err != nil || done.Receipt.Coordinator != home.id {
			t.Fatalf("after it is back: %v, %v", done.Receipt.Coordinator, err)
		}
	})
}

// A program that has just started knows nothing by itself. It believes the node
// that it has the ring from, until the member answers.
func TestMembersThatAreAwayAreNotWaitedFor(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		home, other := w.homes("k")[0], w.homes("k")[1]
		home.host.Pause()
		w.setAway(home, true)
		c, err := client.Dial(ctx, []string{other.peer.Addr}, client.WithTransport(w.me))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		begun := time.Now()
		done, err := c.Put(ctx, []byte("k"), []byte("1"))
		if err != nil || done.Receipt.Coordinator == home.id {
			t.Fatalf("got %v, %v", done.Receipt.Coordinator, err)
		}
		if took := time.Since(begun); took > 50*time.Millisecond {
			t.Fatalf("took %v", took)
		}
		home.host.Resume() // the others have not noticed yet
		time.Sleep(5 * time.Second)
		done, err = c.Put(ctx, []byte("k"), []byte("2"))
		if err != nil || done.Receipt.Coordinator != home.id {
			t.Fatalf("after it is back: %v, %v", done.Receipt.Coordinator, err)
		}
	})
}

// The address that Dial has waited for in vain is a member of the ring that
// another one has sent: no request waits for it again.
func TestAddressThatDidNotAnswerDialIsNotWaitedForAgain(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		home, other := w.homes("k")[0], w.homes("k")[1]
		home.host.Pause()
		c, err := client.Dial(ctx, []string{home.peer.Addr, other.peer.Addr}, client.WithTransport(w.me))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		begun := time.Now()
		done, err := c.Put(ctx, []byte("k"), []byte("1"))
		if err != nil || done.Receipt.Coordinator == home.id {
			t.Fatalf("got %v, %v", done.Receipt.Coordinator, err)
		}
		if took := time.Since(begun); took > 50*time.Millisecond {
			t.Fatalf("took %v", took)
		}
	})
}
