package store

import (
	"testing"
	"time"

	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store/version"
)

// ended is a sink that tells when it was told.
type ended chan error

func (ended) Minted([]byte, version.Dot, version.Context, int) {}

func (e ended) Committed(err error) { e <- err }

// A write that looked at the cache when it came, and was held up, is applied to what
// was committed since then, and not to what it saw.
func TestWriteThatWaitedSeesWhatWasCommittedMeanwhile(t *testing.T) {
	s, err := Open(disk.New(1).Open(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	done := make(ended)
	put := func(value string) *Put {
		return &Put{Key: []byte("k"), Value: []byte(value), ValueDigest: version.DigestOf([]byte(value)), Blind: true,
			Stamp: version.StampAt(time.Now()), Sink: done}
	}
	s.Put(put("first"))
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	late := put("late")
	if err := s.admit(&late.link, late.Partition, late.Key, len(late.Value)); err != nil {
		t.Fatal(err)
	}
	late.link.warm, late.link.gen = s.cache.peek(late.link.hash, late.link.key)
	if late.link.warm == nil {
		t.Fatal("the cache does not have what was committed")
	}

	elsewhere := version.Dot{Actor: 77, Seq: 1}
	r := version.Record{Key: []byte("k")}
	r = r.Put(nil, version.NewSibling(elsewhere, version.StampAt(time.Now()), 0, []byte("of another home")))
	s.Merge(&Merge{Record: r, Encoded: r.Append(nil), Sink: done})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s.enqueue(item{put: late})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b, err := s.Get(0, []byte("k"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := version.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Siblings) != 1 || string(got.Siblings[0].Value) != "late" {
		t.Errorf("stored are %d siblings, want the late one alone", len(got.Siblings))
	}
	if !got.Seen.Covers(elsewhere) {
		t.Errorf("the late write has replaced %v without having seen it: %v", elsewhere, got.Seen)
	}
}
