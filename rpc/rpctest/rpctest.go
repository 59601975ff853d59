// Package rpctest says by tests what a Transport and its way to a Mux promise.
// It owns no transport: TCP and the simulated network both run it.
//
// It can run in a testing/synctest bubble, where subtests are not allowed: then
// run each of Cases in a bubble of its own.
package rpctest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/wire"
)

// Net is a network in which a Mux serves at one address.
type Net struct {
	// From sends from another place than that of the Mux.
	From rpc.Transport
	// Server is where the Mux serves.
	Server rpc.Peer
	// Nobody is where nobody does, and the network says so.
	Nobody rpc.Peer
	// Kill ends the server at once, as a crash of its process does.
	Kill func()
	// Close ends it in good order, and waits for that. Its Mux goes on.
	Close func()
}

// Start makes a Net, which ends with the test.
type Start func(t *testing.T, mux *rpc.Mux) Net

// Case is one promise.
type Case struct {
	Name string
	Run  func(t *testing.T, start Start)
}

// Run runs all cases as subtests.
func Run(t *testing.T, start Start) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, start) })
	}
}

// Cases gives all promises.
func Cases() []Case {
	return []Case{
		{"RequestGetsItsResponse", requestGetsItsResponse},
		{"ReflectedMessagesArriveWhole", reflectedMessages},
		{"HandlerErrorsSurvive", handlerErrors},
		{"HandlerErrorIsNoRefusal", handlerErrorIsNoRefusal},
		{"UnknownRouteIsRefusedByName", unknownRoute},
		{"MalformedRequestIsRefused", malformedRequest},
		{"DeadlineEndsTheWait", deadlineEndsTheWait},
		{"PastDeadlineIsNotSent", pastDeadline},
		{"HandlerContextHasTheDeadline", handlerContext},
		{"OverloadIsRefusedAtOnce", overload},
		{"ClassesDoNotStarveEachOther", classesApart},
		{"NobodyIsUnreachable", nobody},
		{"CrashIsNotARefusal", crash},
		{"GoodbyeAnswersWhatWasTaken", goodbyeAnswers},
		{"GoodbyeLeavesNobodyInDoubt", goodbyeLeavesNoDoubt},
		{"BigBodiesArriveWhole", bigBodies},
		{"TooLargeIsNotSent", tooLarge},
		{"ManyCallersGetTheirOwn", manyCallers},
		{"ResponsesComeInAnyOrder", anyOrder},
		{"PanicFailsOneRequest", panics},
		{"SecondAnswerIsDropped", secondAnswer},
		{"CancelReturnsAtOnce", cancelReturns},
		{"SendEncodesBeforeItReturns", sendEncodes},
		{"PingIsAlwaysAnswered", pinged},
	}
}

// text is a message that encodes itself.
type text struct{ Data []byte }

// AppendWire implements wire.Appender.
func (m *text) AppendWire(b []byte) []byte {
	return wire.AppendBytes(wire.AppendArray(b, 1), m.Data)
}

// ParseWire implements wire.Parser.
func (m *text) ParseWire(r *wire.Reader) error {
	s := r.Struct()
	m.Data = s.Bytes()
	return s.End()
}

// plain is a message for reflection.
type plain struct {
	Name  string
	Count int64
	Nodes []ring.NodeID
	Inner []inner
}

type inner struct {
	Key   []byte
	Share float64
	Since time.Time
	On    bool
}

const (
	echo    rpc.Route[text, text]   = "test.echo"
	hold    rpc.Route[text, text]   = "test.hold"
	reflect rpc.Route[plain, plain] = "test.reflect"
	work    rpc.Route[text, text]   = "test.work"
	control rpc.Route[text, text]   = "test.control"
)

// newMux makes a Mux with an echo, which ends with the test.
func newMux(t *testing.T, cfg rpc.MuxConfig) *rpc.Mux {
	m := rpc.NewMux(cfg)
	t.Cleanup(m.Close)
	echo.HandleInline(m, rpc.ClassClient, func(c *rpc.Call, req *text) { c.Reply(req) })
	return m
}

// holding adds a route whose calls are given to the test to answer.
func holding(m *rpc.Mux) <-chan *rpc.Call {
	held := make(chan *rpc.Call, 1024)
	hold.HandleInline(m, rpc.ClassClient, func(c *rpc.Call, _ *text) { held <- c })
	return held
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func wantEcho(t *testing.T, n Net, data string) {
	t.Helper()
	resp, err := echo.Call(soon(t), n.From, n.Server, &text{Data: []byte(data)})
	if err != nil {
		t.Fatalf("echo %q: %v", data, err)
	}
	if string(resp.Data) != data {
		t.Fatalf("echo %q gave %q", data, resp.Data)
	}
}

// wantError checks the sentinel and what NotSent says.
func wantError(t *testing.T, err, sentinel error, notSent bool) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Fatalf("error is %v, want one that is %q", err, sentinel)
	}
	if rpc.NotSent(err) != notSent {
		t.Fatalf("NotSent(%v) = %v", err, !notSent)
	}
}

func requestGetsItsResponse(t *testing.T, start Start) {
	n := start(t, newMux(t, rpc.MuxConfig{}))
	for _, data := range []string{"", "a", "hello"} {
		wantEcho(t, n, data)
	}
}

func reflectedMessages(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{})
	reflect.Handle(m, rpc.ClassControl, func(_ context.Context, _ rpc.Peer, req *plain) (*plain, error) { return req, nil })
	n := start(t, m)
	req := &plain{
		Name: "n", Count: -5, Nodes: []ring.NodeID{{1}, {2}},
		Inner: []inner{{Key: []byte("k"), Share: 0.5, Since: time.Unix(1e9, 7).UTC(), On: true}, {}},
	}
	resp, err := reflect.Call(soon(t), n.From, n.Server, req)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(resp.Name, resp.Count, resp.Nodes), fmt.Sprint(req.Name, req.Count, req.Nodes); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(resp.Inner) != 2 || !bytes.Equal(resp.Inner[0].Key, req.Inner[0].Key) || resp.Inner[0].Share != 0.5 ||
		!resp.Inner[0].Since.Equal(req.Inner[0].Since) || !resp.Inner[0].On {
		t.Errorf("got %+v, want %+v", resp.Inner, req.Inner)
	}
}

func bigBodies(t *testing.T, start Start) {
	n := start(t, newMux(t, rpc.MuxConfig{}))
	for _, size := range []int{4 << 10, 64<<10 - 40, 64 << 10, 300 << 10, 1 << 20, 9 << 20} {
		data := bytes.Repeat([]byte("0123456789abcde"), size/15)
		resp, err := echo.Call(soon(t), n.From, n.Server, &text{Data: data})
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(resp.Data, data) {
			t.Fatalf("%d bytes came back changed", size)
		}
	}
}

func manyCallers(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{})
	work.Handle(m, rpc.ClassClient, func(_ context.Context, _ rpc.Peer, req *text) (*text, error) { return req, nil })
	n := start(t, m)
	const callers, each = 64, 40
	failed := make(chan error, callers)
	for caller := range callers {
		route := echo
		if caller%2 == 1 {
			route = work
		}
		go func() {
			for i := range each {
				want := fmt.Sprintf("%d/%d/%s", caller, i, bytes.Repeat([]byte("x"), i*caller))
				resp, err := route.Call(soon(t), n.From, n.Server, &text{Data: []byte(want)})
				if err == nil && string(resp.Data) != want {
					err = fmt.Errorf("asked for %q, got %q", want, resp.Data)
				}
				if err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range callers {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

func anyOrder(t *testing.T, start Start) {
	m := newMux(t, rpc.MuxConfig{})
	held := holding(m)
	n := start(t, m)
	first := make(chan error, 1)
	hold.Send(n.From, n.Server, &text{}, time.Now().Add(20*time.Second), rpc.CompleteFunc(func(_ []byte, err error) { first <- err }))
	call := <-held
	wantEcho(t, n, "the second overtakes the first")
	call.Reply(&text{})
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func sendEncodes(t *testing.T, start Start) {
	n := start(t, newMux(t, rpc.MuxConfig{}))
	req := &text{Data: []byte("before")}
	got := make(chan string, 1)
	echo.Send(n.From, n.Server, req, time.Now().Add(20*time.Second), rpc.CompleteFunc(func(reply []byte, err error) {
		var resp text
		if err == nil {
			err = echo.Decode(reply, &resp)
		}
		got <- fmt.Sprint(string(resp.Data), err)
	}))
	copy(req.Data, "after!")
	if s := <-got; s != "before<nil>" {
		t.Errorf("got %s", s)
	}
}

func pinged(t *testing.T, start Start) {
	n := start(t, newMux(t, rpc.MuxConfig{}))
	got := make(chan error, 1)
	n.From.Send(n.Server, "rpc.ping", &text{}, time.Now().Add(20*time.Second), rpc.CompleteFunc(func(_ []byte, err error) { got <- err }))
	if err := <-got; err != nil {
		t.Error(err)
	}
}
