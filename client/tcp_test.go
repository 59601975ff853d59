package client_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// listen serves the ring of a cluster of one over TCP, and counts the puts that
// reach it.
func listen(t *testing.T, cluster ring.ClusterID) (addr string, puts chan struct{}, stop func()) {
	t.Helper()
	me := ring.Member{ID: ring.NodeID{cluster[0]}, Name: "one", Weight: 1}
	return listenAs(t, me, table(t, cluster, []ring.Member{me}), nil)
}

// listenAs serves a ring over TCP as one of its members. The addresses are those
// of the others.
func listenAs(t *testing.T, me ring.Member, record *ring.Record, others []api.MemberAddress) (addr string, puts chan struct{}, stop func()) {
	t.Helper()
	cluster := record.Cluster
	mux := rpc.NewMux(rpc.MuxConfig{})
	puts = make(chan struct{}, 100)
	api.Put.HandleInline(mux, rpc.ClassClient, func(c *rpc.Call, _ *api.PutRequest) {
		puts <- struct{}{}
		c.Reply(&api.PutResponse{Receipt: api.Receipt{Epoch: record.Epoch, Coordinator: me.ID, Need: 1, Answered: []ring.NodeID{me.ID}}})
	})
	api.Ring.HandleInline(mux, rpc.ClassControl, func(c *rpc.Call, _ *api.RingRequest) {
		c.Reply(&api.RingResponse{Epoch: record.Epoch, Record: record.Encode(), Now: time.Now().UnixMilli(),
			Members: append([]api.MemberAddress{{ID: me.ID, Addr: addr, Alive: true}}, others...)})
	})
	s, err := rpc.Listen("127.0.0.1:0", rpc.TCPConfig{Self: rpc.Peer{ID: me.ID}, Mux: mux, Cluster: func() ring.ClusterID { return cluster }})
	if err != nil {
		t.Fatal(err)
	}
	addr = s.Addr()
	return addr, puts, func() { s.Close(); mux.Close() }
}

func TestNodeOfAnotherClusterGetsNoWrite(t *testing.T) {
	first, firstPuts, stopFirst := listen(t, ring.ClusterID{1})
	other, otherPuts, stopOther := listen(t, ring.ClusterID{2})
	defer stopOther()
	for _, opts := range [][]client.Option{{client.Direct()}, nil} {
		c, err := client.Dial(ctx, []string{first, " " + other}, opts...)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Put(ctx, []byte("k"), nil); err != nil || len(firstPuts) == 0 {
			t.Fatalf("the client's own cluster: %v", err)
		}
		defer func() {
			_, err := c.Put(ctx, []byte("k"), nil)
			if client.Unknown(err) { // it met the end of the connection
				_, err = c.Put(ctx, []byte("k"), nil)
			}
			if !errors.Is(err, client.ErrWrongCluster) && !errors.Is(err, client.ErrUnavailable) || !client.Refused(err) {
				t.Errorf("with only the other cluster left: %v", err)
			}
			if len(otherPuts) > 0 {
				t.Errorf("%d puts came to the other cluster", len(otherPuts))
			}
		}()
	}
	stopFirst()
}

func TestManyConnectionsCarryRequests(t *testing.T) {
	addr, puts, stop := listen(t, ring.ClusterID{1})
	defer stop()
	c, err := client.Dial(ctx, []string{addr}, client.WithConnections(4))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 20 {
		if _, err := c.Put(ctx, []byte{byte(i)}, make([]byte, i*10_000)); err != nil {
			t.Fatal(err)
		}
	}
	if len(puts) != 20 {
		t.Errorf("%d puts came", len(puts))
	}
}

// A process that was stopped has its connections made by the kernel, and never
// says a word. Nothing of a write has left then, and it goes elsewhere while there
// is time.
func TestWriteGoesElsewhereWhenNoConnectionComesAbout(t *testing.T) {
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	me := ring.Member{ID: ring.NodeID{1}, Name: "one", Weight: 1, State: ring.Active}
	stopped := ring.Member{ID: ring.NodeID{2}, Name: "two", Weight: 1, State: ring.Active}
	record := table(t, ring.ClusterID{1}, []ring.Member{me, stopped})
	addr, puts, stop := listenAs(t, me, record, []api.MemberAddress{{ID: stopped.ID, Addr: deaf.Addr().String(), Alive: true}})
	defer stop()
	c, err := client.Dial(ctx, []string{addr}, client.WithTimeout(3*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 256 {
		key := []byte{byte(i)}
		if record.Homes(record.PartitionOf(key))[0] != stopped.ID {
			continue
		}
		if _, err := c.Put(ctx, key, nil); err != nil || len(puts) != 1 {
			t.Fatalf("%d puts came to the other home: %v", len(puts), err)
		}
		return
	}
	t.Fatal("the stopped node is the first home of no key")
}
