package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/kithdb/kith/ring"
)

// Two sides agree on the highest version that both speak, each by itself, or on none.
func TestFault28_SidesAgreeOnTheHighestCommonVersion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) Protocols {
			return Protocols{rapid.Uint8Range(0, 12).Draw(t, name+" min"), rapid.Uint8Range(0, 12).Draw(t, name+" max")}
		}
		a, b := draw("a"), draw("b")
		speaks := func(p Protocols, v uint8) bool { return p.Min <= v && v <= p.Max }
		var want uint8
		any := false
		for v := range uint8(20) {
			if speaks(a, v) && speaks(b, v) {
				want, any = v, true
			}
		}
		for _, got := range [][2]Protocols{{a, b}, {b, a}} {
			if v, ok := got[0].Common(got[1]); ok != any || any && v != want {
				t.Fatalf("%v and %v: %d, %v", a, b, v, ok)
			}
		}
	})
}

// What a program is built for is read as it is meant, or not at all.
func TestProgramsAreBuiltForARangeOfProtocols(t *testing.T) {
	if p := mustProtocols(""); p != (Protocols{ProtocolMin, ProtocolMax}) || Spoken() != p {
		t.Errorf("by default it is %v", p)
	}
	if p := mustProtocols("2-13"); p != (Protocols{2, 13}) {
		t.Errorf("2-13 is %v", p)
	}
	for _, bad := range []string{"2", "0-3", "3-2", "1-256", "-1", "1-2-3", " 1-2"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q is taken", bad)
				}
			}()
			mustProtocols(bad)
		}()
	}
}

// records is what was logged, a line each.
type records struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

func (r *records) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(strings.Lines(r.b.String()))
}

// Nodes of which the ranges meet work by the highest common version; where they do not,
// both sides refuse, name both ranges, and log it once, however often they try.
func TestFault28_NodesOfTwoVersionsMeet(t *testing.T) {
	for _, c := range []struct {
		server, client Protocols
		version        uint8 // 0 for none
	}{
		{Protocols{1, 1}, Protocols{1, 1}, 1},
		{Protocols{1, 1}, Protocols{1, 2}, 1},
		{Protocols{1, 3}, Protocols{2, 7}, 3},
		{Protocols{2, 2}, Protocols{1, 9}, 2},
		{Protocols{1, 1}, Protocols{2, 3}, 0},
		{Protocols{4, 5}, Protocols{1, 3}, 0},
	} {
		t.Run(fmt.Sprint(c.server, " and ", c.client), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var theirs, ours records
				p := newPipes()
				server := serve(p, TCPConfig{Self: server1, Mux: echoMux(), Protocols: c.server, Logger: slog.New(slog.NewTextHandler(&theirs, nil))})
				self := Peer{ID: ring.NodeID{2}, Addr: "client:1"}
				client := newClient(TCPConfig{Self: self, Protocols: c.client, Logger: slog.New(slog.NewTextHandler(&ours, nil))}, p.dial)
				defer server.Close()
				defer client.Close()
				for range 50 {
					err := callEcho(client, time.Second)
					if c.version > 0 && err != nil {
						t.Fatal(err)
					}
					if c.version == 0 && (!errors.Is(err, ErrVersion) || !NotSent(err)) {
						t.Fatalf("there is no common version: %v", err)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if c.version > 0 {
					for _, conn := range client.conns(nil) {
						if conn.version != c.version {
							t.Errorf("the client speaks %d", conn.version)
						}
					}
					server.mu.Lock()
					for conn := range server.conns {
						if conn.version != c.version {
							t.Errorf("the server speaks %d", conn.version)
						}
					}
					server.mu.Unlock()
					return
				}
				for side, log := range map[string]*records{"server": &theirs, "client": &ours} {
					lines := log.lines()
					if len(lines) != 1 {
						t.Fatalf("the %s has logged %d lines: %q", side, len(lines), lines)
					}
					for _, word := range []string{c.server.String(), c.client.String(), server1.ID.Short(), self.ID.Short()} {
						if !strings.Contains(lines[0], word) {
							t.Errorf("the %s does not name %s: %s", side, word, lines[0])
						}
					}
				}
			})
		})
	}
}
