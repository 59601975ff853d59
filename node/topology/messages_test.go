package topology

import (
	"bytes"
	"testing"

	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/wire"
)

// message is one of this package's.
type message interface {
	wire.Appender
	wire.Parser
}

func messages() []message {
	b := paxos.Ballot{Round: 7, Node: paxos.Node{1, 2}}
	return []message{
		&pullRequest{ring.ClusterID{1}, 9},
		&pullResponse{9, []byte("record")},
		&tellRequest{[]byte("record")},
		&tellResponse{9},
		&voteRequest{9, []byte("base"), true, b, []byte("value")},
		&voteResponse{paxos.Reply{OK: true, Promised: b, Accepted: b, Value: []byte("value"), Decided: []byte("decided")}},
		&seesRequest{ring.NodeID{3}},
		&seesResponse{true},
		&surviveRequest{ring.ClusterID{1}, 2, stepAccept, b, []byte("value")},
		&surviveResponse{true, []byte("record"), b, []byte("voted"), b, b, []byte("value"), true},
	}
}

func blank(i int) message {
	return []message{new(pullRequest), new(pullResponse), new(tellRequest), new(tellResponse), new(voteRequest), new(voteResponse),
		new(seesRequest), new(seesResponse), new(surviveRequest), new(surviveResponse)}[i]
}

func TestMessagesReadWhatTheyWrote(t *testing.T) {
	for i, m := range messages() {
		b := m.AppendWire(nil)
		got := blank(i)
		r := wire.NewReader(b)
		if err := got.ParseWire(r); err != nil || len(r.Rest()) > 0 {
			t.Errorf("%T: %v, %d bytes left", m, err, len(r.Rest()))
		}
		if again := got.AppendWire(nil); !bytes.Equal(again, b) {
			t.Errorf("%T: %x became %x", m, b, again)
		}
	}
}

func FuzzMessages(f *testing.F) {
	for i, m := range messages() {
		f.Add(uint8(i), m.AppendWire(nil))
	}
	f.Fuzz(func(t *testing.T, i uint8, b []byte) {
		n := int(i) % len(messages())
		m := blank(n)
		if m.ParseWire(wire.NewReader(b)) != nil {
			return
		}
		// What was read is written in one form, which reads the same.
		once := m.AppendWire(nil)
		again := blank(n)
		if err := again.ParseWire(wire.NewReader(once)); err != nil {
			t.Fatalf("%T from %x cannot be read again: %v", m, b, err)
		}
		if !bytes.Equal(again.AppendWire(nil), once) {
			t.Fatalf("%T from %x has two forms", m, b)
		}
	})
}
