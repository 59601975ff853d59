package store

import (
	"reflect"
	"testing"

	"github.com/kithdb/kith/store/version"
)

// Whatever bytes come, a block is read as it was written or not at all.
func FuzzParseLogBlock(f *testing.F) {
	f.Add(appendLogBlock(nil, nil))
	f.Add(appendLogBlock(nil, []logged{{version.Dot{Actor: 7, Seq: 1}, "d/\x00\x05key"}, {version.Dot{Actor: 1 << 63, Seq: 1 << 62}, "d/\x00\x05k"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parseLogBlock(5, b)
		if err != nil {
			return
		}
		again, err := parseLogBlock(5, appendLogBlock(nil, entries))
		if err != nil || !reflect.DeepEqual(again, entries) {
			t.Fatalf("%v, %v: %v", entries, again, err)
		}
	})
}

func TestParseLogBlockFindsEveryDamagedByte(t *testing.T) {
	b := appendLogBlock(nil, []logged{{version.Dot{Actor: 7, Seq: 300}, "d/\x00\x05key"}, {version.Dot{Actor: 8, Seq: 1}, "d/\x00\x05other"}})
	for i := range b {
		b[i] ^= 0x40
		if got, err := parseLogBlock(5, b); err == nil {
			t.Fatalf("byte %d is damaged: %v", i, got)
		}
		b[i] ^= 0x40
	}
	for n := range b {
		if _, err := parseLogBlock(5, b[:n]); err == nil {
			t.Fatalf("read %d of %d bytes", n, len(b))
		}
	}
}
