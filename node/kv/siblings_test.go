package kv_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
)

// TestSiblingsAreCapped: a hundred of them refuse a write without context, here and
// through a forward, until a writer who has seen them makes them one.
func TestSiblingsAreCapped(t *testing.T) {
	inWorld(t, 4, 3, func(w *world) {
		key := w.keyWhere(func(key string) bool { return !slices.Contains(w.homesIn(w.record, key), 0) })
		home := w.homesIn(w.record, key)[0]
		seen := w.mustPut(home, key, "base", nil).Context
		for i := range store.SiblingsBlindMax {
			w.mustPut(home, key, fmt.Sprint("v", i), seen)
		}
		time.Sleep(time.Second)
		for _, via := range []int{home, 0} {
			_, err := w.put(via, api.PutRequest{Key: []byte(key), Value: []byte("blind")})
			if !errors.Is(err, api.ErrTooManySiblings) || errors.Is(err, api.ErrUnknown) {
				t.Errorf("blind put through node %d: %v", via, err)
			}
		}
		all, err := w.get(0, key, api.All)
		if err != nil || len(all.Values) != store.SiblingsBlindMax {
			t.Fatalf("%d siblings, %v", len(all.Values), err)
		}
		w.mustPut(0, key, "one", all.Context)
		w.mustPut(0, key, "blind again", nil)
		if got := w.values(home, key, api.All); len(got) != 1 || !got["blind again"] {
			t.Errorf("it shows %v", got)
		}
	})
}

// TestContextAheadOfItsHomeIsRefusedEverywhere: no home takes a context that names
// what was never minted, and none is tried after the first has said so.
func TestContextAheadOfItsHomeIsRefusedEverywhere(t *testing.T) {
	inWorld(t, 4, 3, func(w *world) {
		key := w.keyWhere(func(key string) bool { return !slices.Contains(w.homesIn(w.record, key), 0) })
		home := w.homesIn(w.record, key)[0]
		w.mustPut(home, key, "base", nil)
		seen := w.own(home, key).Seen
		seen[0].Seq += 1000
		_, err := w.put(0, api.PutRequest{Key: []byte(key), Value: []byte("v"), Context: w.token(key, seen)})
		if !errors.Is(err, api.ErrBadRequest) || errors.Is(err, api.ErrUnknown) {
			t.Errorf("put: %v", err)
		}
		if got := w.values(home, key, api.All); len(got) != 1 || !got["base"] {
			t.Errorf("it shows %v", got)
		}
	})
}
