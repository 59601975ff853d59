package store_test

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
)

// sectors is a disk that refuses to read some bytes of one file, until that file
// is written anew.
type sectors struct {
	storage.Storage

	mu       sync.Mutex // guards what follows
	bad      storage.FileDesc
	from, to int64
}

func (s *sectors) spoil(fd storage.FileDesc, from, to int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad, s.from, s.to = fd, from, to
}

func (s *sectors) refuses(fd storage.FileDesc, from, to int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fd == s.bad && from < s.to && s.from < to
}

func (s *sectors) Open(fd storage.FileDesc) (storage.Reader, error) {
	r, err := s.Storage.Open(fd)
	return &sectorReader{r, s, fd}, err
}

func (s *sectors) Rename(from, to storage.FileDesc) error {
	err := s.Storage.Rename(from, to)
	if err == nil && s.refuses(to, 0, 1<<62) {
		s.spoil(storage.FileDesc{}, 0, 0)
	}
	return err
}

type sectorReader struct {
	storage.Reader
	s  *sectors
	fd storage.FileDesc
}

func (r *sectorReader) ReadAt(b []byte, off int64) (int, error) {
	if r.s.refuses(r.fd, off, off+int64(len(b))) {
		return 0, syscall.EIO
	}
	return r.Reader.ReadAt(b, off)
}

func newSectors(t *testing.T, seed uint64) (*rotten, *sectors) {
	h := newRotten(t, seed, 2000)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	disk := &sectors{Storage: h.d.Open()}
	h.Store = open(t, disk, small())
	return h, disk
}

// A sector that cannot be read any more would keep its keys from being written,
// and their partition from being repaired, for ever.
func TestFault33_BadSectorIsPutOutOfTheWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, disk := newSectors(t, 1)
		fd := h.d.Files(storage.TypeTable)[0]
		at := int64(h.d.Size(fd) / 2)
		disk.spoil(fd, at, at+512)
		var refused string
		for key := range h.acked {
			if _, err := tryGet(h.Store, partitionOfKey(key), key); err != nil {
				wantError(t, err, store.ErrCorrupt)
				refused = key
				break
			}
		}
		if refused == "" {
			t.Fatal("the sector does not show")
		}
		p := partitionOfKey(refused)
		wantError(t, start(h.Store, blind(p, refused, "w")).wait(), store.ErrCorrupt)
		time.Sleep(30 * time.Second)
		if h.Stats().Reopenings > 0 {
			t.Fatal("given up at once")
		}
		time.Sleep(2 * time.Minute)
		serving(t, h.Store)
		if st := h.Stats(); st.Reopenings != 1 || st.Rotten == 0 || h.Health().LossyAll {
			t.Fatalf("stats %+v, health %+v", st, h.Health())
		}
		if gone := h.check(); gone == 0 || gone > 60 {
			t.Fatalf("%d keys are gone with one sector", gone)
		}
		h.acked[refused] = mustPut(t, h.Store, p, refused, "w")
		h.check()
	})
}

// A sector that comes back was never lost.
func TestFault33_SectorThatComesBackIsNotGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, disk := newSectors(t, 2)
		fd := h.d.Files(storage.TypeTable)[0]
		at := int64(h.d.Size(fd) / 2)
		disk.spoil(fd, at, at+512)
		for p := range ring.Partition(rottenPartitions) {
			_ = h.Scan(p, nil, 0, func(_, _ []byte) bool { return true })
		}
		time.Sleep(40 * time.Second)
		disk.spoil(storage.FileDesc{}, 0, 0)
		time.Sleep(5 * time.Minute)
		if st := h.Stats(); st.Reopenings > 0 || st.Rotten > 0 || len(h.Health().Losses) == 0 {
			t.Fatalf("stats %+v, health %+v", st, h.Health())
		}
		for key, o := range h.acked {
			if !get(t, h.Store, partitionOfKey(key), key).Seen.Covers(o.dot) {
				t.Fatalf("%s is gone", key)
			}
		}
	})
}

// A disk that cannot be read at all has not lost everything.
func TestFault33_DiskThatIsAwayIsNotEmptied(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, disk := newSectors(t, 3)
		for range 3 {
			fd := h.d.Files(storage.TypeTable)[0]
			// All of it, or all but its end.
			disk.spoil(fd, 0, int64(h.d.Size(fd))-int64(h.r.IntN(2)*3000))
			refused := 0
			for p := range ring.Partition(rottenPartitions) {
				err := h.Scan(p, nil, 0, func(_, _ []byte) bool { return true })
				if errors.Is(err, store.ErrCorrupt) {
					refused++
				}
			}
			if refused == 0 {
				t.Fatal("the disk reads")
			}
			time.Sleep(5 * time.Minute)
			disk.spoil(storage.FileDesc{}, 0, 0)
			if st := h.Stats(); st.Reopenings > 0 || st.Rotten > 0 {
				t.Fatalf("stats %+v, health %+v", st, h.Health())
			}
		}
		for key, o := range h.acked {
			if !get(t, h.Store, partitionOfKey(key), key).Seen.Covers(o.dot) {
				t.Fatal(fmt.Sprint(key, " is gone"))
			}
		}
	})
}
