package node_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/store"
)

// files is what is in a directory: paths and bytes.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// metas is what a data directory's database has under some names.
func metas(t *testing.T, dir string, change map[string][]byte, names ...string) (all []string) {
	t.Helper()
	disk, err := storage.OpenFile(filepath.Join(dir, "db"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	s, err := store.Open(disk, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, b := range change {
		if err := s.SetMeta(name, b); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		b, err := s.Meta(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s=%x", name, b))
	}
	return all
}

// A data directory that a later version of the program has written is refused with what
// to do, whatever of it is of a later format; and what it keeps is as it was, so that
// the program that wrote it goes on with it.
func TestFault29_ADirectoryOfALaterFormatIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		file string            // is written anew, or
		text string            //
		meta map[string][]byte // these are
		want string
	}{
		{name: "directory", file: "KITH", text: "kith data 2\n", want: `format "kith data 2"`},
		{name: "node", file: "ID", text: "id 2 0011223344\n", want: "the file ID"},
		{name: "ring record", meta: map[string][]byte{"ring": {200, 1, 2, 3}}, want: "format 200"},
		{name: "peer book", meta: map[string][]byte{"peers": {0xc7, 1, 2, 3}}, want: "peer book"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := found(t, 1, 1)
			if err := cluster.put(cluster.nodes[0], "k", "v"); err != nil {
				t.Fatal(err)
			}
			if err := cluster.nodes[0].Close(); err != nil {
				t.Fatal(err)
			}
			cluster.nodes = nil
			cfg := config(cluster.dir, 0)
			names := []string{"node", "ring", "ring/cell", "peers", "lives", "history"}
			if c.file != "" {
				if err := os.WriteFile(filepath.Join(cfg.Data, c.file), []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			kept := metas(t, cfg.Data, c.meta, names...)
			before := files(t, cfg.Data)
			n, err := node.Start(cfg)
			if err == nil {
				_ = n.Close()
				t.Fatal("it starts")
			}
			for _, word := range []string{c.want, "use the program that wrote it, or a newer one"} {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
			after := files(t, cfg.Data)
			for path, text := range before {
				inside := strings.HasPrefix(path, filepath.Join(cfg.Data, "db"))
				if c.name == "directory" || !inside {
					if after[path] != text {
						t.Errorf("%s was changed", path)
					}
				}
			}
			if c.name == "directory" && len(after) != len(before) {
				t.Errorf("%d files, there were %d", len(after), len(before))
			}
			if again := metas(t, cfg.Data, nil, names...); fmt.Sprint(again) != fmt.Sprint(kept) {
				t.Errorf("was changed:\n%v\n%v", again, kept)
			}
		})
	}
}
