package kv_test

import (
	"errors"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc/api"
)

// changing gives the other two homes a new record every so often, for a time, while
// node 0 takes longer to adopt one; and a get, a put and a scan through node 0 meanwhile.
func (w *world) changing(adopts, every, lasts time.Duration) (get, put, scan error) {
	w.t.Helper()
	w.mustPut(0, "k", "v", nil)
	w.nodes[0].disk.SetSyncDelay(func() time.Duration { return adopts })
	var took [3]chan error
	start := time.Now()
	epoch := w.record.Epoch
	for i, ask := range []func() error{
		func() error { _, err := w.get(0, "k", api.All); return err },
		func() error {
			_, err := w.put(0, api.PutRequest{Key: []byte("k"), Value: []byte("new"), W: api.All})
			return err
		},
		func() error {
			_, err := w.scan(0, api.ScanRequest{Partition: uint16(w.record.PartitionOf([]byte("k"))), R: api.All})
			return err
		},
	} {
		took[i] = make(chan error, 1)
		go func() {
			err := ask()
			if since := time.Since(start); since < lasts-lasts/8 {
				w.t.Errorf("request %d ends after %v: %v", i, since, err)
			}
			took[i] <- err
		}()
	}
	for time.Since(start) < lasts {
		epoch++
		w.adopt(w.ring(epoch, 0, 1, 2), 1, 2)
		time.Sleep(every)
	}
	return <-took[0], <-took[1], <-took[2]
}

// A coordinator that is slower to adopt records than they come refuses nothing: it
// follows them until they come no more.
func TestWhoIsSlowToAdoptFollowsEveryRecord(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		get, put, scan := w.changing(30*time.Millisecond, 20*time.Millisecond, 1200*time.Millisecond)
		if get != nil || put != nil || scan != nil {
			t.Errorf("get: %v; put: %v; scan: %v", get, put, scan)
		}
	})
}

// If they never end, its deadline ends a request, and says what is left behind.
func TestRecordsThatNeverEndAreFollowedUntilTheDeadline(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		get, put, scan := w.changing(60*time.Millisecond, 20*time.Millisecond, 2*time.Second)
		if !errors.Is(get, api.ErrUnavailable) || !errors.Is(put, api.ErrUnknown) || scan == nil {
			t.Errorf("get: %v; put: %v; scan: %v", get, put, scan)
		}
	})
}
