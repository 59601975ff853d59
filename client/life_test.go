package client_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
)

func TestLifeOfAValueTravels(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		at := time.UnixMilli(1_900_000_000_123)
		for _, tc := range []struct {
			opt         client.CallOption
			ttl, expiry uint64
		}{
			{client.WithTTL(time.Millisecond), 1, 0},
			{client.WithTTL(time.Second + time.Nanosecond), 1001, 0},
			{client.WithTTL(client.TTLMax), uint64(client.TTLMax / time.Millisecond), 0},
			{client.WithExpiry(at), 0, 1_900_000_000_123},
			{client.WithExpiry(time.UnixMilli(1)), 0, 1},
			{client.WithExpiry(time.Time{}), 0, 0},
			{client.Quorum, 0, 0},
		} {
			if _, err := c.Put(ctx, []byte("k"), nil, tc.opt); err != nil {
				t.Fatal(err)
			}
			home := w.homes("k")[0]
			if got := home.puts[len(home.puts)-1]; got.TTL != tc.ttl || got.Expiry != tc.expiry || got.Sloppy {
				t.Errorf("%#v: %+v", tc.opt, got)
			}
		}
		if _, err := c.Put(ctx, []byte("k"), []byte("v"), client.WithTTL(time.Hour), client.WithExpiry(at)); err != nil {
			t.Fatal(err)
		}
		got, err := c.Get(ctx, []byte("k"))
		if err != nil || !got.Expires.Equal(at) || !got.Siblings[0].Expires.Equal(at) {
			t.Errorf("%+v, %v", got, err)
		}
		for it, err := range c.Scan(ctx, nil) {
			if err != nil || !it.Expires.Equal(at) {
				t.Errorf("%+v, %v", it, err)
			}
		}
		if _, err := c.Put(ctx, []byte("k"), []byte("v")); err != nil {
			t.Fatal(err)
		}
		if got, err = c.Get(ctx, []byte("k")); err != nil || !got.Expires.IsZero() {
			t.Errorf("for ever: %+v, %v", got, err)
		}
	})
}

func TestBatchItemsLiveAsLongAsEachSays(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		at := time.UnixMilli(1_900_000_000_123)
		for _, r := range c.PutAll(ctx, []client.Put{
			{Key: []byte("a")},
			{Key: []byte("b"), Expires: at},
			{Key: []byte("c"), TTL: time.Minute},
			{Key: []byte("d"), Delete: true},
		}, client.WithTTL(time.Hour), client.Sloppy()) {
			if r.Err != nil {
				t.Error(r.Err)
			}
		}
		for i, want := range []struct{ ttl, expiry uint64 }{{3_600_000, 0}, {0, 1_900_000_000_123}, {60_000, 0}, {0, 0}} {
			if got := w.nodes[0].puts[i]; got.TTL != want.ttl || got.Expiry != want.expiry || !got.Sloppy {
				t.Errorf("%s: %+v", got.Key, got)
			}
		}
	})
}

func TestLivesThatCannotBeAreRefusedBeforeTheyAreSent(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		for _, opt := range []client.CallOption{
			client.WithTTL(0), client.WithTTL(-time.Second), client.WithTTL(time.Millisecond - 1), client.WithTTL(client.TTLMax + 1),
			client.WithTTL(math.MaxInt64), client.WithExpiry(time.UnixMilli(0)), client.WithExpiry(time.UnixMilli(-5)),
		} {
			if _, err := c.Put(ctx, []byte("k"), nil, opt); !errors.Is(err, client.ErrBadRequest) || !client.Refused(err) {
				t.Errorf("%#v: %v", opt, err)
			}
		}
		for _, opt := range []client.CallOption{client.WithTTL(time.Second), client.WithExpiry(time.UnixMilli(1 << 41))} {
			if _, err := c.Delete(ctx, []byte("k"), opt); !errors.Is(err, client.ErrBadRequest) {
				t.Errorf("delete with %#v: %v", opt, err)
			}
		}
		for _, r := range c.PutAll(ctx, []client.Put{
			{Key: []byte("k"), TTL: time.Second, Expires: time.UnixMilli(1 << 41)},
			{Key: []byte("k"), TTL: -time.Second},
			{Key: []byte("k"), Delete: true, TTL: time.Second},
		}) {
			if !errors.Is(r.Err, client.ErrBadRequest) {
				t.Error(r.Err)
			}
		}
		if n := w.totalPuts(); n != 0 {
			t.Errorf("%d were sent", n)
		}
	})
}

func TestInspectGoesToAHomeAndTellsAll(t *testing.T) {
	inBubble(t, 5, func(t *testing.T, w *world) {
		c := w.dial()
		defer c.Close()
		seen, err := c.Inspect(ctx, []byte("k"))
		if err != nil {
			t.Fatal(err)
		}
		one := seen.Copies[0]
		if one.Member != w.homes("k")[0].id.String() || len(one.Siblings) != 1 || one.Siblings[0].Actor != "00000000000000aa" ||
			one.Siblings[0].Seq != 7 || one.Siblings[0].Size != 9 || one.Incorporated[0].Seq != 7 || !seen.Equal || seen.Why[0] != "all is well" {
			t.Errorf("%+v", seen)
		}
		if _, err := c.Inspect(ctx, nil); !errors.Is(err, client.ErrBadRequest) {
			t.Errorf("the empty key: %v", err)
		}
	})
}
