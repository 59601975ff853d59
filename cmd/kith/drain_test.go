package main

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
)

// TestWhoDoesNotAnswerHasNotEnded: the end is awaited until nobody listens, and not
// until nobody answers; or until who listens does not drain, which is another process.
func TestWhoDoesNotAnswerHasNotEnded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	silent := func(context.Context) (*client.Status, error) { return nil, errors.New("no answer") }
	draining := func(state string) func(context.Context) (*client.Status, error) {
		return func(context.Context) (*client.Status, error) {
			return &client.Status{Node: "a", Members: []client.MemberStatus{{ID: "a", State: state}}}, nil
		}
	}
	const most = 3 * drainPause
	for _, c := range []struct {
		name   string
		status func(context.Context) (*client.Status, error)
		told   bool
		ended  bool
	}{
		{"silent", silent, true, false},
		{"silent, and perhaps not told", silent, false, false},
		{"draining", draining("draining"), true, false},
		{"started again", draining("ready"), true, true},
		{"perhaps not told", draining("ready"), false, false},
	} {
		if err := awaitEnd(t.Context(), c.status, addr, c.told, most); (err == nil) != c.ended {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	l.Close()
	if err := awaitEnd(t.Context(), silent, addr, false, time.Minute); err != nil {
		t.Errorf("nobody listens: %v", err)
	}
}
