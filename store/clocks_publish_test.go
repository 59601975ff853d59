package store_test

import (
	"errors"
	"testing"

	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// Who reads the clock and then a record may conclude that what the record lacks was
// replaced: so a record can be read before the clock claims it.
func TestClockClaimsNothingThatReadsDoNotShow(t *testing.T) {
	s := mustOpen(t, disk.New(1).Open(), small())
	defer s.Close()
	stop, ended := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			clock := s.ClockOf(0)
			b, err := s.Get(0, []byte("k"))
			if err == nil && b != nil {
				var r version.Record
				if r, err = version.Parse(b); err == nil && !r.Seen.Includes(clock.Bases()) {
					err = errors.New("the clock claims what the record has not seen")
				}
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	for range 20000 {
		o := newOutcome()
		s.Put(&store.Put{Key: []byte("k"), Value: []byte("v"), ValueDigest: version.DigestOf([]byte("v")), Blind: true, Stamp: 1, Sink: o})
		if err := o.wait(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
