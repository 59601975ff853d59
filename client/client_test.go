package client_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/quorum"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

var ctx = context.Background()

func TestGetReadsWhatPutWrote(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		for _, value := range [][]byte{[]byte("v"), {}, {0, 255, '\n'}} {
			done, err := c.Put(ctx, []byte("k"), value)
			if err != nil {
				t.Fatal(err)
			}
			if done.Receipt.Got() != 2 || done.Receipt.Need != 2 || string(done.Context) != "after k" {
				t.Fatalf("put: %+v", done)
			}
			got, err := c.Get(ctx, []byte("k"))
			if err != nil || got.Value == nil || string(got.Value) != string(value) {
				t.Fatalf("got %v, %v for %v", got.Value, err, value)
			}
			if len(got.Siblings) != 1 || !got.Siblings[0].Winner || got.Siblings[0].Value == nil {
				t.Fatalf("siblings: %+v", got.Siblings)
			}
		}
		if _, err := c.Delete(ctx, []byte("k")); err != nil {
			t.Fatal(err)
		}
		got, err := c.Get(ctx, []byte("k"))
		if !errors.Is(err, client.ErrNotFound) || !client.Refused(err) || client.Unknown(err) {
			t.Fatalf("after a delete: %v", err)
		}
		if got.Value != nil || string(got.Context) != "of k" {
			t.Fatalf("a key that is not found has a context all the same: %+v", got)
		}
	})
}

func TestOptionsTravel(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		home := w.homes("k")[0]
		for _, level := range []client.Level{client.One, client.Quorum, client.All, client.W(2)} {
			if _, err := c.Put(ctx, []byte("k"), nil, level, client.WithContext(client.Context("ctx"))); err != nil {
				t.Fatal(err)
			}
			got := home.puts[len(home.puts)-1]
			if got.W != api.Level(level) || string(got.Context) != "ctx" {
				t.Fatalf("level %d: %+v", level, got)
			}
		}
		for _, impossible := range []client.Level{client.R(0), client.W(-1), client.R(255), client.W(254), client.R(1000)} {
			for _, named := range []client.Level{client.One, client.Quorum, client.All, 0} {
				if impossible == named {
					t.Fatalf("a count that cannot be became level %d", named)
				}
			}
		}
	})
}

func TestRequestsGoToTheFirstHome(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		for i := range 100 {
			key := fmt.Sprintf("key-%d", i)
			done, err := c.Put(ctx, []byte(key), []byte("v"))
			if err != nil {
				t.Fatal(err)
			}
			if want := w.homes(key)[0].id; done.Receipt.Coordinator != want {
				t.Fatalf("%s went to %s, its first home is %s", key, done.Receipt.Coordinator, want)
			}
		}
	})
}

func TestWriteIsSentAgainOnlyAfterARefusal(t *testing.T) {
	unmet := &quorum.UnmetError{Op: "put", Need: 2, Got: 1, Slots: 3, Homes: []quorum.HomeError{{ID: ring.NodeID{7}, Reason: "unreachable"}}}
	for _, tc := range []struct {
		name    string
		err     error
		sent    int
		done    bool
		unknown bool
	}{
		{"unavailable", fmt.Errorf("%w: %w", api.ErrUnavailable, unmet), 2, true, false},
		{"not ready", api.ErrNotReady, 2, true, false},
		{"overloaded", rpc.ErrOverloaded, 2, true, false},
		{"storage", api.ErrStorage, 2, true, false},
		{"clock", api.ErrClock, 2, true, false},
		{"fenced", api.ErrFenced, 2, true, false},
		{"bad request", api.ErrBadRequest, 1, false, false},
		{"too large", api.ErrTooLarge, 1, false, false},
		{"too many siblings", api.ErrTooManySiblings, 1, false, false},
		{"unknown", fmt.Errorf("%w: %w", api.ErrUnknown, unmet), 1, false, true},
		{"unknown and unavailable", fmt.Errorf("%w: %w", api.ErrUnknown, api.ErrUnavailable), 1, false, true},
		{"another node was not reached", rpc.ErrUnreachable, 1, false, true},
		{"an error without a name", errors.New("strange"), 1, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 3, func(t *testing.T, w *world) {
				c := w.dial()
				defer c.Close()
				w.homes("k")[0].set(func(n *far) { n.refuse = always(tc.err) })
				_, err := c.Put(ctx, []byte("k"), []byte("v"))
				if got := w.totalPuts(); got != tc.sent {
					t.Errorf("sent %d times, want %d", got, tc.sent)
				}
				if (err == nil) != tc.done || client.Unknown(err) != tc.unknown || client.Refused(err) != (!tc.done && !tc.unknown) {
					t.Fatalf("got %v", err)
				}
				if err == nil {
					return
				}
				var e *client.Error
				if !errors.As(err, &e) || e.Op != "put" || string(e.Key) != "k" || e.Node == "" {
					t.Fatalf("got %#v", err)
				}
				if errors.Is(tc.err, unmet) && (e.Need != 2 || e.Got != 1 || len(e.Homes) != 1) {
					t.Fatalf("the homes' reasons are lost: %#v", e)
				}
			})
		})
	}
}

func TestRefusedByAllIsRefusedAtOnceWithTheReason(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		for _, n := range w.nodes {
			n.set(func(n *far) { n.refuse = always(api.ErrUnavailable) })
		}
		begun := time.Now()
		_, err := c.Put(ctx, []byte("k"), nil)
		if !errors.Is(err, client.ErrUnavailable) || !client.Refused(err) {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(begun); took > 50*time.Millisecond {
			t.Fatalf("refused after %v", took)
		}
		if n := w.totalPuts(); n != 3 {
			t.Fatalf("%d nodes were asked: who is no home would only ask the homes again", n)
		}
	})
}

func TestRefusalDoesNotWaitForNodesThatAreDown(t *testing.T) {
	for _, cause := range []error{api.ErrUnavailable, api.ErrStorage, api.ErrNotReady, rpc.ErrOverloaded} {
		inBubble(t, 5, func(t *testing.T, w *world) {
			c := w.dial(client.WithTimeout(time.Second))
			defer c.Close()
			homes := w.homes("k")
			homes[1].host.Pause()
			homes[2].host.PowerOff()
			for range 4 { // the first have to find out
				c.PutAll(ctx, []client.Put{{Key: []byte("k")}})
				c.Get(ctx, []byte("k"))
				for _, n := range w.nodes {
					n.set(func(n *far) { n.refuse = always(cause) })
				}
			}
			for name, do := range map[string]func() error{
				"put":   func() error { _, err := c.Put(ctx, []byte("k"), nil); return err },
				"get":   func() error { _, err := c.Get(ctx, []byte("k")); return err },
				"batch": func() error { return c.PutAll(ctx, []client.Put{{Key: []byte("k")}})[0].Err },
			} {
				begun := time.Now()
				if err := do(); !errors.Is(err, cause) || !client.Refused(err) {
					t.Errorf("%s: %v, want %v", name, err, cause)
				}
				if took := time.Since(begun); took > 100*time.Millisecond {
					t.Errorf("%s was refused for %v after %v", name, cause, took)
				}
			}
		})
	}
}

func TestDeadlineOfTheContextGoesBeforeTheDefault(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial(client.WithTimeout(time.Second))
		defer c.Close()
		for _, n := range w.nodes {
			n.set(func(n *far) { n.swallow = true })
		}
		for _, tc := range []struct{ ctx, want time.Duration }{{0, time.Second}, {200 * time.Millisecond, 200 * time.Millisecond}, {3 * time.Second, 3 * time.Second}} {
			ctx, cancel := ctx, context.CancelFunc(func() {})
			if tc.ctx > 0 {
				ctx, cancel = context.WithTimeout(ctx, tc.ctx)
			}
			begun := time.Now()
			_, err := c.Put(ctx, []byte("k"), nil)
			took := time.Since(begun)
			cancel()
			if !client.Unknown(err) || took < tc.want || took > tc.want+100*time.Millisecond {
				t.Fatalf("%v after %v, want %v", err, took, tc.want)
			}
			begun = time.Now()
			ctx, cancel = context.WithTimeout(context.Background(), tc.want)
			_, err = c.Get(ctx, []byte("k"))
			took = time.Since(begun)
			cancel()
			if !client.Refused(err) || took > tc.want+100*time.Millisecond {
				t.Fatalf("get: %v after %v, want %v", err, took, tc.want)
			}
		}
	})
}

func TestCancelReturnsAtOnce(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		for _, n := range w.nodes {
			n.set(func(n *far) { n.swallow = true })
		}
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(100*time.Millisecond, cancel)
		begun := time.Now()
		_, err := c.Put(ctx, []byte("k"), nil)
		if !client.Unknown(err) || !errors.Is(err, context.Canceled) || time.Since(begun) > 101*time.Millisecond {
			t.Fatalf("%v after %v", err, time.Since(begun))
		}
		if _, err = c.Put(ctx, []byte("k"), nil); !client.Refused(err) || !errors.Is(err, context.Canceled) {
			t.Fatalf("with a context that has ended: %v", err)
		}
		if _, err = c.Get(ctx, []byte("k")); !client.Refused(err) || !errors.Is(err, context.Canceled) {
			t.Fatalf("with a context that has ended: %v", err)
		}
	})
}

func TestBadInputIsRefusedBeforeItIsSent(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		for _, tc := range []struct {
			key, value int
			want       error
		}{
			{0, 1, client.ErrBadRequest},
			{client.KeyMax + 1, 1, client.ErrTooLarge},
			{1, client.ValueMax + 1, client.ErrTooLarge},
		} {
			key := make([]byte, tc.key)
			_, err := c.Put(ctx, key, make([]byte, tc.value))
			if !errors.Is(err, tc.want) || !client.Refused(err) {
				t.Errorf("put of %d and %d bytes: %v", tc.key, tc.value, err)
			}
			if tc.value > 1 {
				continue
			}
			if _, err = c.Get(ctx, key); !errors.Is(err, tc.want) {
				t.Errorf("get of %d bytes: %v", tc.key, err)
			}
			if got := c.GetAll(ctx, [][]byte{key}); !errors.Is(got[0].Err, tc.want) {
				t.Errorf("get of %d bytes in a batch: %v", tc.key, got[0].Err)
			}
		}
		if n := w.totalPuts(); n != 0 {
			t.Errorf("%d were sent", n)
		}
		if _, err := c.Put(ctx, make([]byte, client.KeyMax), nil); err != nil {
			t.Errorf("the longest key: %v", err)
		}
	})
}

func TestStampsRise(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		last := uint64(0)
		for i := range 20 {
			key := fmt.Sprint(i)
			if _, err := c.Put(ctx, []byte(key), nil); err != nil {
				t.Fatal(err)
			}
			home := w.homes(key)[0]
			got := home.puts[len(home.puts)-1].Stamp
			if i > 0 && got <= last {
				t.Fatalf("put %d carries stamp %d after %d", i, got, last)
			}
			last = got
		}
	})
}

func TestWriteHasATimeLimitByTheNodesClock(t *testing.T) {
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour} {
		inBubble(t, 3, func(t *testing.T, w *world) {
			for _, n := range w.nodes {
				n.set(func(n *far) { n.ahead = ahead })
			}
			w.stamp = 1
			c := w.dial(client.WithTimeout(2 * time.Second))
			defer c.Close()
			time.Sleep(time.Minute)
			want := time.Now().Add(ahead + 2*time.Second)
			if _, err := c.Put(ctx, []byte("k"), nil); err != nil {
				t.Fatal(err)
			}
			got := time.UnixMilli(int64(w.homes("k")[0].puts[0].NotAfter))
			if got.Before(want) || got.After(want.Add(time.Second)) {
				t.Fatalf("limit is %v, want %v or a little later", got, want)
			}
			// The nodes' clocks are set forward: their stamps tell.
			want = want.Add(2 * time.Hour)
			w.mu.Lock()
			w.stamp = uint64(want.UnixMilli()) << 16
			w.mu.Unlock()
			for range 2 {
				if _, err := c.Put(ctx, []byte("k"), nil); err != nil {
					t.Fatal(err)
				}
			}
			home := w.homes("k")[0]
			if got := time.UnixMilli(int64(home.puts[2].NotAfter)); got.Before(want) {
				t.Fatalf("limit is %v after stamps of %v", got, want)
			}
		})
	}
}

func TestClosedClientRefuses(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		c.Close()
		c.Close()
		if _, err := c.Put(ctx, []byte("k"), nil); !errors.Is(err, client.ErrClosed) || !client.Refused(err) {
			t.Fatalf("got %v", err)
		}
		for _, r := range c.PutAll(ctx, []client.Put{{Key: []byte("k")}}) {
			if !errors.Is(r.Err, client.ErrClosed) {
				t.Fatalf("got %v", r.Err)
			}
		}
		if w.totalPuts() != 0 {
			t.Fatal("sent")
		}
	})
}
