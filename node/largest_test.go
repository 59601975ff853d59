package node_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kithdb/kith/node/kv"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// The largest value that may be asked for is taken by every home, read back whole
// through any node, and does not grow by a sibling.
func TestTheLargestValueIsTaken(t *testing.T) {
	c := &real{t: t, dir: t.TempDir(), net: rpc.NewClient(rpc.TCPConfig{FrameMax: 2 * kv.ValueMaxLimit})}
	t.Cleanup(c.close)
	for i := range 3 {
		cfg := config(c.dir, i)
		cfg.ValueMax, cfg.Replicas = kv.ValueMaxLimit, 3
		if i == 0 {
			cfg.Expect = 3
		} else {
			cfg.Join = []string{c.nodes[0].GossipAddr()}
		}
		c.start(cfg)
	}
	c.waitReady()
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	key, value := []byte("largest"), bytes.Repeat([]byte("kith"), kv.ValueMaxLimit/4)
	put := func(value, token []byte) error {
		_, err := api.Put.Call(ctx, c.net, rpc.Peer{Addr: c.nodes[0].Addr()}, &api.PutRequest{Key: key, Value: value, W: api.All, Context: token})
		return err
	}
	if err := put(value, nil); err != nil {
		t.Fatalf("a value of %d bytes: %v", len(value), err)
	}
	if err := put(append(value, 'x'), nil); !errors.Is(err, api.ErrTooLarge) {
		t.Errorf("a value of %d bytes: %v", len(value)+1, err)
	}
	for _, n := range c.nodes {
		got, err := api.Get.Call(ctx, c.net, rpc.Peer{Addr: n.Addr()}, &api.GetRequest{Key: key, R: api.All})
		if err != nil || len(got.Values) != 1 || !bytes.Equal(got.Values[0].Data, value) {
			t.Errorf("read through %s: %d values, %v", n.ID().Short(), len(got.Values), err)
		}
	}
}
