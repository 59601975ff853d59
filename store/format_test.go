package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/syndtr/goleveldb/leveldb"

	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
)

// contents is all that is in a database, in its order.
func contents(t *testing.T, d *disk.Disk) (all []string) {
	t.Helper()
	db, err := leveldb.Open(d.Open(), nil)
	if err != nil {
		t.Fatal(err)
	}
	it := db.NewIterator(nil, nil)
	for it.Next() {
		all = append(all, fmt.Sprintf("%q=%q", it.Key(), it.Value()))
	}
	it.Release()
	if err := errors.Join(it.Error(), db.Close()); err != nil {
		t.Fatal(err)
	}
	return all
}

// A database of a later format is refused with what to do, nothing in it is changed, and
// the program that wrote it goes on with it.
func TestFault29_ADatabaseOfALaterFormatIsRefused(t *testing.T) {
	d := disk.New(29)
	s, err := store.Open(d.Open(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SetMeta("k", []byte("v")), s.Close()); err != nil {
		t.Fatal(err)
	}
	rewrite(t, d, []byte("m/.losses"), []byte(`{"all":false,"format":1000,"unheard":[1]}`))
	rewrite(t, d, []byte("m/.fences"), []byte("a later encoding"))
	before := contents(t, d)
	for range 2 {
		s, err := store.Open(d.Open(), store.Options{})
		if err == nil {
			_ = s.Close()
			t.Fatal("it is opened")
		}
		for _, word := range []string{"format 1000", "this program knows up to", "use the program that wrote it"} {
			if !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), word) {
				t.Errorf("%q does not say %q", err, word)
			}
		}
		if after := contents(t, d); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("the database was changed:\n%q\n%q", before, after)
		}
	}
}
