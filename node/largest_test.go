package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

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
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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

// A batch that asks for more than one message holds is answered in parts: some of
// its keys are read, and the others are to be asked for again.
func TestABatchOfLargestValuesIsAnsweredInParts(t *testing.T) {
	c := found(t, 1, 1)
	const keys = 24
	value := strings.Repeat("v", kv.ValueMaxDefault)
	req := &api.GetAllRequest{}
	for i := range keys {
		key := fmt.Sprintf("large-%d", i)
		if err := c.put(c.nodes[0], key, value); err != nil {
			t.Fatal(err)
		}
		req.Keys = append(req.Keys, []byte(key))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for len(req.Keys) > 0 {
		resp, err := api.GetAll.Call(ctx, c.net, rpc.Peer{Addr: c.nodes[0].Addr()}, req)
		if err != nil {
			t.Fatalf("%d keys: %v", len(req.Keys), err)
		}
		var left [][]byte
		for i, got := range resp.Results {
			switch err := rpc.ParseError(got.Error); {
			case len(got.Error) > 0 && errors.Is(err, rpc.ErrOverloaded):
				left = append(left, req.Keys[i])
			case len(got.Error) > 0 || len(got.Response.Values) != 1 || len(got.Response.Values[0].Data) != len(value):
				t.Fatalf("key %s: %d values, %v", req.Keys[i], len(got.Response.Values), err)
			}
		}
		if len(left) == len(req.Keys) {
			t.Fatalf("of %d keys none was read", len(left))
		}
		req.Keys = left
	}
}
