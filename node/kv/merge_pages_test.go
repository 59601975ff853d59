package kv

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestMergedPagesSkipNothing: homes that hold different keys, paged through
// together, give every key of each once and in order.
func TestMergedPagesSkipNothing(t *testing.T) {
	for seed := range uint64(500) {
		chance := rand.New(rand.NewPCG(seed, 1))
		homes := make([][][]byte, 1+chance.IntN(3))
		var want [][]byte
		for i := range 40 {
			key := fmt.Appendf(nil, "%02d", i)
			held := false
			for h := range homes {
				if chance.IntN(3) > 0 {
					homes[h] = append(homes[h], key)
					held = true
				}
			}
			if held {
				want = append(want, key)
			}
		}
		limit := 1 + chance.IntN(8)
		var got [][]byte
		for after := []byte(nil); ; after = got[len(got)-1] {
			var pages []*keysResponse
			for _, held := range homes {
				pages = append(pages, pageOf(held, after, 1+chance.IntN(limit)))
			}
			keys, more := mergePages(pages, limit)
			if got = append(got, keys...); !more {
				break
			}
			if len(keys) == 0 {
				t.Fatalf("seed %d: an empty page that is not the last", seed)
			}
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("seed %d: %q, want %q", seed, got, want)
		}
	}
}

// pageOf is a home's page: it may end before the limit, being full in bytes.
func pageOf(held [][]byte, after []byte, limit int) *keysResponse {
	held = held[slices.IndexFunc(append(slices.Clone(held), []byte("~")), func(k []byte) bool { return bytes.Compare(k, after) > 0 }):]
	n := min(limit, len(held))
	return &keysResponse{Keys: held[:n], More: n < len(held)}
}

// TestClassesOfErrorsNeverMix: what is unknown is no refusal, whatever else its
// error names, so that nobody mints the write again.
func TestClassesOfErrorsNeverMix(t *testing.T) {
	for _, e := range storeErrors {
		if unknown := unknownFor(e.to); elsewhere(unknown) || rerouted(unknown) || refused(unknown) {
			t.Errorf("%v is taken for a refusal", unknown)
		}
		if both := fmt.Errorf("%w: %w", storeErrors[0].to, e.to); elsewhere(both) || rerouted(both) || refused(both) {
			t.Errorf("%v is taken for a refusal", both)
		}
	}
}
