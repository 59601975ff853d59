package store_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
)

// A store whose disk goes on failing while it is opened again, at whichever fsync
// of that, can be closed: each attempt gives back once what it has opened.
func TestFault31_CloseWhileTheDiskGoesOnFailing(t *testing.T) {
	for spared := range 12 {
		bubble(t, func(t *testing.T) {
			d := disk.New(1)
			s := open(t, d.Open(), small())
			kept := mustPut(t, s, 1, "a", "1")
			syncs, last := spared, time.Now() // the put's fails; attempts are 50 ms apart or more
			d.FailSync(func(storage.FileDesc) bool {
				if time.Since(last) >= 50*time.Millisecond {
					syncs = 0
				}
				syncs, last = syncs+1, time.Now()
				return syncs > spared
			}, disk.Forever, false, syscall.EIO)
			wantError(t, start(s, blind(1, "a", "2")).wait(), store.ErrUncertain)
			time.Sleep(20 * time.Second) // some attempts
			s.Close()
			d.Heal()
			s = open(t, d.Open(), small())
			defer s.Close()
			if r := get(t, s, 1, "a"); !r.Seen.Covers(kept.dot) {
				t.Fatalf("after %d syncs: %+v", spared, r)
			}
		})
	}
}
