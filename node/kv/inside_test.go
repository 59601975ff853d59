package kv_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc/api"
)

// TestEverythingMayCompleteInsideSend: requests that run on their sender's
// goroutine meet operations that begin, end and time out on others.
func TestEverythingMayCompleteInsideSend(t *testing.T) {
	n := newNear(t)
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			told := make(outcomes, 1)
			for j := range 200 {
				key, c := fmt.Appendf(nil, "key-%d", j%7), n.kvs[(i+j)%3]
				deadline := time.Now().Add(30 * time.Second)
				if j%10 == 0 {
					deadline = time.Now() // it may be answered before it has begun
				}
				c.Put(&api.PutRequest{Key: key, Value: fmt.Append(nil, i, j), W: api.All}, deadline, told)
				if err := <-told; err != nil && j%10 != 0 {
					t.Error(err)
				}
				c.Get(&api.GetRequest{Key: key, R: api.All}, deadline, told)
				if err := <-told; err != nil && j%10 != 0 {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	for _, c := range n.kvs {
		if lead, ok := c.ClockAhead(); ok {
			t.Errorf("a clock is %v ahead of itself", lead)
		}
	}
	// Whoever closes while others call gets the answers of both.
	told := make(outcomes, 2000)
	callers.Go(func() {
		for range 1000 {
			n.kvs[0].Put(&api.PutRequest{Key: []byte("k"), W: api.All}, time.Now().Add(30*time.Second), told)
			n.kvs[0].Get(&api.GetRequest{Key: []byte("k"), R: api.All}, time.Now().Add(30*time.Second), told)
		}
	})
	n.close(0)
	callers.Wait()
	for range 2000 {
		err := <-told
		if err != nil && !errors.Is(err, api.ErrNotReady) && !errors.Is(err, api.ErrUnknown) && !errors.Is(err, api.ErrUnavailable) {
			t.Error(err)
		}
	}
}
