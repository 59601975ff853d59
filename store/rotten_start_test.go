package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/sim/disk"
)

// compactsFirst is a disk under a machine that gives the compaction which LevelDB
// starts with its opening all the time that it needs, before the store goes on.
type compactsFirst struct{ storage.Storage }

func (c compactsFirst) Log(line string) {
	c.Storage.Log(line)
	if strings.HasPrefix(line, "db@open done") {
		time.Sleep(time.Second)
	}
}

// toCompact is a disk with so many tables that the next opening compacts them, of
// a store that was killed.
func toCompact(t *testing.T, seed uint64) *rotten {
	h := &rotten{t: t, d: disk.New(seed), acked: map[string]*outcome{}}
	for life := range 8 { // each but the first begins with a new table
		h.Store = mustOpen(t, h.d.Open(), small())
		if life == 0 {
			ringOf(t, h.Store, rottenPartitions)
		}
		for i := range 40 {
			key := fmt.Sprintf("k%d.%02d", life, i)
			h.acked[key] = mustPut(t, h.Store, partitionOfKey(key), key, strings.Repeat("v", 400))
		}
		stop3(h.d, h.Store, 1)
	}
	if n := len(h.d.Files(storage.TypeTable)); n != 7 {
		t.Fatalf("%d tables, want 7", n)
	}
	return h
}

// flipEach damages a block of records in each of so many tables.
func (h *rotten) flipEach(tables int) {
	for _, fd := range h.d.Files(storage.TypeTable)[:tables] {
		h.d.Flip(fd, h.d.Size(fd)/3, 1)
	}
}

// A compaction that meets rot before the store has opened does not end the start.
// What is lost is named by partition, and stays so.
func TestFault33_StartOverRottenTables(t *testing.T) {
	for _, tables := range []int{1, 7} {
		bubble(t, func(t *testing.T) {
			h := toCompact(t, 1)
			h.flipEach(tables)
			h.Store = open(t, compactsFirst{h.d.Open()}, small())
			hl, st := h.Health(), h.Stats()
			if hl.Failed != nil || hl.LossyAll || hl.MetaLost || len(hl.Lossy) == 0 || st.Rotten != int64(tables) || st.Reopenings != 0 {
				t.Fatalf("%d tables: health %+v, stats %+v", tables, hl, st)
			}
			if h.Boot() != 9 {
				t.Errorf("boot %d, want 9", h.Boot())
			}
			if gone := h.check(); gone == 0 {
				t.Error("the damage does not show")
			}
			mustPut(t, h.Store, 1, "k", "v")
			stop3(h.d, h.Store, 2)
			h.Store = open(t, compactsFirst{h.d.Open()}, small())
			if again := h.Health(); !slices.Equal(again.Lossy, hl.Lossy) || again.LossyAll || again.MetaLost {
				t.Fatalf("the loss was forgotten: %+v, now %+v", hl, again)
			}
			h.check()
		})
	}
}
