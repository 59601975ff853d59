package client_test

import (
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// instant answers at once, so that what is measured is the client's own part.
type instant struct{ get, put, ring []byte }

func newInstant(b *testing.B) *instant {
	members := []ring.Member{{ID: ring.NodeID{1}, Name: "a", Weight: 1}, {ID: ring.NodeID{2}, Name: "b", Weight: 1}, {ID: ring.NodeID{3}, Name: "c", Weight: 1}}
	first, err := ring.Found(ring.ClusterID{1}, "bench", members[0], ring.PartitionsDefault, 3)
	if err != nil {
		b.Fatal(err)
	}
	record, err := first.WithTable(members)
	if err != nil {
		b.Fatal(err)
	}
	resp := api.RingResponse{Epoch: record.Epoch, Record: record.Encode(), Now: time.Now().UnixMilli()}
	for i, m := range members {
		resp.Members = append(resp.Members, api.MemberAddress{ID: m.ID, Addr: []string{"a:1", "b:1", "c:1"}[i], Alive: true})
	}
	receipt := api.Receipt{Epoch: record.Epoch, Coordinator: members[0].ID, Answered: []ring.NodeID{{1}, {2}}, Need: 2, Siblings: 1}
	stamp := uint64(time.Now().UnixMilli()) << 16
	got := api.GetResponse{Found: true, Values: []api.Value{{Data: make([]byte, 128), Stamp: stamp}}, Context: make([]byte, 40), Receipt: receipt, Stamp: stamp}
	put := api.PutResponse{Context: make([]byte, 40), Receipt: receipt, Stamp: stamp}
	i := &instant{get: got.AppendWire(nil), put: put.AppendWire(nil)}
	if i.ring, err = encodeByReflection(&resp); err != nil {
		b.Fatal(err)
	}
	return i
}

func encodeByReflection(v any) ([]byte, error) {
	var out appendWriter
	e := msgpack.NewEncoder(&out)
	e.UseArrayEncodedStructs(true)
	err := e.Encode(v)
	return out, err
}

type appendWriter []byte

func (w *appendWriter) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}

// Send implements rpc.Transport.
func (i *instant) Send(_ rpc.Peer, route string, _ any, _ time.Time, c rpc.Completer) {
	switch route {
	case string(api.Get):
		c.Complete(i.get, nil)
	case string(api.Put):
		c.Complete(i.put, nil)
	default:
		c.Complete(i.ring, nil)
	}
}

func BenchmarkOwnPart(b *testing.B) {
	c, err := client.Dial(ctx, []string{"a:1"}, client.WithTransport(newInstant(b)))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	key, value := []byte("user:1"), make([]byte, 128)
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Get(ctx, key); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("put", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Put(ctx, key, value); err != nil {
				b.Fatal(err)
			}
		}
	})
}
