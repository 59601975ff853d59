package kv_test

import (
	"errors"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc/api"
)

// outcomes takes what sinks are told.
type outcomes chan error

func (o outcomes) PutDone(_ *api.PutResponse, err error) { o <- err }
func (o outcomes) GetDone(_ *api.GetResponse, err error) { o <- err }

// TestCloseAnswersWhatIsUnderWay: once each, and refuses what comes later.
func TestCloseAnswersWhatIsUnderWay(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		for _, other := range w.nodes[1:] {
			w.net.Cut(w.nodes[0].host.Name(), other.host.Name())
		}
		c := w.nodes[0].kv
		told := make(outcomes, 100)
		later := time.Now().Add(time.Minute)
		c.Put(&api.PutRequest{Key: []byte("k"), Value: []byte("v")}, later, told)
		time.Sleep(100 * time.Millisecond)
		c.Get(&api.GetRequest{Key: []byte("k")}, later, told)
		halted := make(chan struct{})
		go func() {
			defer close(halted)
			w.halt(0)
		}()
		defer func() { <-halted }()
		time.Sleep(time.Second)
		if len(told) != 2 {
			t.Fatalf("%d of 2 operations were answered", len(told))
		}
		for range 2 {
			if err := <-told; !errors.Is(err, api.ErrUnknown) && !errors.Is(err, api.ErrNotReady) && !errors.Is(err, api.ErrUnavailable) {
				t.Errorf("under way: %v", err)
			}
		}
		c.Put(&api.PutRequest{Key: []byte("k"), Value: []byte("v")}, later, told)
		c.Get(&api.GetRequest{Key: []byte("k")}, later, told)
		for range 2 {
			if err := <-told; !errors.Is(err, api.ErrNotReady) || errors.Is(err, api.ErrUnknown) {
				t.Errorf("after Close: %v", err)
			}
		}
		time.Sleep(2 * time.Minute)
		if len(told) != 0 {
			t.Errorf("answered again: %v", <-told)
		}
	})
}

// TestRequestsAfterTheirDeadlineEnd: the sweeper and the start of an operation
// meet.
func TestRequestsAfterTheirDeadlineEnd(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		told := make(outcomes, 2000)
		past := time.Now().Add(-time.Second)
		for range 1000 {
			w.nodes[0].kv.Put(&api.PutRequest{Key: []byte("k"), Value: []byte("v")}, past, told)
			w.nodes[0].kv.Get(&api.GetRequest{Key: []byte("k")}, past, told)
		}
		time.Sleep(10 * time.Second)
		if len(told) != 2000 {
			t.Errorf("%d of 2000 operations were answered", len(told))
		}
	})
}
