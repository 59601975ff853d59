package rpc

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/rpc/wire"
)

type older struct {
	Name  string
	Count int
}

type newer struct {
	Name  string
	Count int
	Extra map[string][]int64
	More  *older
}

// Fields are only added: either side may be the newer one.
func TestReflectedMessagesBearNewFields(t *testing.T) {
	b, err := encode(nil, &newer{Name: "n", Count: 2, Extra: map[string][]int64{"a": {1}}, More: &older{}})
	if err != nil {
		t.Fatal(err)
	}
	var o older
	if err := decode(b, &o); err != nil || o.Name != "n" || o.Count != 2 {
		t.Errorf("an older receiver reads %+v, %v", o, err)
	}
	if b, err = encode(nil, &o); err != nil {
		t.Fatal(err)
	}
	n := newer{}
	if err := decode(b, &n); err != nil || n.Name != "n" || n.Count != 2 || n.Extra != nil || n.More != nil {
		t.Errorf("a newer receiver reads %+v, %v", n, err)
	}
}

func TestEncodingAppends(t *testing.T) {
	for _, msg := range []any{&blob{Data: []byte("x")}, &older{Name: "x"}} {
		alone, err := encode(nil, msg)
		if err != nil {
			t.Fatal(err)
		}
		b, err := encode([]byte("before"), msg)
		if err != nil || string(b) != "before"+string(alone) {
			t.Errorf("%T: %q, %v", msg, b, err)
		}
	}
}

type panicking struct{}

func (panicking) AppendWire([]byte) []byte { panic("no bytes") }

func TestMessagesThatCannotBeEncodedAreErrors(t *testing.T) {
	for _, msg := range []any{panicking{}, &struct{ C chan int }{C: make(chan int)}} {
		if b, err := encode([]byte("before"), msg); err == nil || string(b) != "before" {
			t.Errorf("%T: %q, %v", msg, b, err)
		}
	}
	mux := NewMux(MuxConfig{})
	echo.HandleInline(mux, ClassClient, func(c *Call, _ *blob) { c.Reply(panicking{}) })
	outcome := make(chan error, 1)
	body, err := AppendMessage(nil, &blob{})
	if err != nil {
		t.Fatal(err)
	}
	mux.Serve(Peer{}, string(echo), body, time.Now().Add(time.Minute), func(_ []byte, err error) { outcome <- err })
	if err := <-outcome; !errors.Is(err, ErrInternal) || NotSent(err) {
		t.Errorf("a reply that can't be encoded: %v", err)
	}
	mux.Close()
}

func TestRoutesRefuseTypesThatTheSenderWouldChoose(t *testing.T) {
	type loop struct{ Next []loop2 }
	for name, register := range map[string]func(*Mux){
		"interface": func(m *Mux) {
			Route[struct{ Any any }, blob]("x").HandleInline(m, ClassClient, func(*Call, *struct{ Any any }) {})
		},
		"interface deep": func(m *Mux) {
			Route[blob, map[string][]any]("x").HandleInline(m, ClassClient, func(*Call, *blob) {})
		},
		"recursion": func(m *Mux) {
			Route[loop, blob]("x").HandleInline(m, ClassClient, func(*Call, *loop) {})
		},
		"twice": func(m *Mux) {
			ping.HandleInline(m, ClassClient, func(*Call, *pingMessage) {})
		},
		"no name": func(m *Mux) {
			Route[blob, blob]("").HandleInline(m, ClassClient, func(*Call, *blob) {})
		},
		"long name": func(m *Mux) {
			Route[blob, blob](strings.Repeat("x", routeMax+1)).HandleInline(m, ClassClient, func(*Call, *blob) {})
		},
		"no class": func(m *Mux) {
			Route[blob, blob]("x").HandleInline(m, classes, func(*Call, *blob) {})
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: registered", name)
				}
			}()
			register(NewMux(MuxConfig{}))
		}()
	}
}

type loop2 struct{ Next []loop2 }

func TestCallWithoutADeadlineHasTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := echo.Call(context.Background(), expiring{}, server1, &blob{})
		if !errors.Is(err, ErrDeadline) || time.Since(began) != callTime {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// expiring is a Transport without answers.
type expiring struct{}

// Send implements Transport.
func (expiring) Send(_ Peer, _ string, _ any, deadline time.Time, c Completer) {
	time.AfterFunc(time.Until(deadline), func() { c.Complete(nil, ErrDeadline) })
}

func TestMuxCloseEndsItsHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mux := NewMux(MuxConfig{})
		began := make(chan struct{})
		echo.Handle(mux, ClassClient, func(ctx context.Context, _ Peer, _ *blob) (*blob, error) {
			close(began)
			<-ctx.Done()
			return nil, ctx.Err()
		})
		outcome := make(chan error, 1)
		reply := func(_ []byte, err error) { outcome <- err }
		mux.Serve(Peer{}, string(echo), []byte{0x91, 0xc4, 0}, time.Now().Add(time.Hour), reply)
		<-began
		mux.Close()
		if err := <-outcome; err == nil || NotSent(err) {
			t.Errorf("the running handler: %v", err)
		}
		mux.Serve(Peer{}, string(echo), []byte{0x91, 0xc4, 0}, time.Now().Add(time.Hour), reply)
		if err := <-outcome; !errors.Is(err, ErrEnding) || !NotSent(err) {
			t.Errorf("a request after Close: %v", err)
		}
	})
}

// What is late on arrival is refused, and no handler sees it.
func TestExpiredRequestsAreRefused(t *testing.T) {
	mux := NewMux(MuxConfig{})
	echo.HandleInline(mux, ClassClient, func(c *Call, req *blob) {
		t.Error("handled")
		c.Reply(req)
	})
	outcome := make(chan error, 1)
	mux.Serve(Peer{}, string(echo), []byte{0x91, 0xc4, 0}, time.Now(), func(_ []byte, err error) { outcome <- err })
	if err := <-outcome; !errors.Is(err, ErrDeadline) || !NotSent(err) || mux.Counts().Expired != 1 {
		t.Error(err)
	}
}

// One request over the byte limit of its class is taken when it is alone.
func TestLargeRequestIsTakenAlone(t *testing.T) {
	mux := NewMux(MuxConfig{Limits: map[Class]Limit{ClassClient: {Bytes: 10}}})
	calls := make(chan *Call, 2)
	echo.HandleInline(mux, ClassClient, func(c *Call, _ *blob) { calls <- c })
	body := wire.AppendBytes(wire.AppendArray(nil, 1), make([]byte, 100))
	outcome := make(chan error, 2)
	for range 2 {
		mux.Serve(Peer{}, string(echo), body, time.Now().Add(time.Hour), func(_ []byte, err error) { outcome <- err })
	}
	if err := <-outcome; !errors.Is(err, ErrOverloaded) || !NotSent(err) {
		t.Errorf("the second: %v", err)
	}
	(<-calls).Reply(&blob{})
	if err := <-outcome; err != nil {
		t.Errorf("the first: %v", err)
	}
}
