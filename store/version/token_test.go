package version

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/kithdb/kith/ring"
	"pgregory.net/rapid"
)

var here = ring.ClusterID{1, 2, 3, 4, 5, 6, 7, 8, 9}

func TestTokenGivesTheContextBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "key")
		c := genContext().Draw(t, "c")
		token := AppendToken([]byte("x"), here, key, c)[1:]
		got, err := ParseToken(token, here, key)
		if err != nil || !slices.Equal(got, c) {
			t.Fatalf("%v, %v", got, err)
		}
	})
}

func TestTokenOfAnotherKeyOrClusterIsRefused(t *testing.T) {
	token := AppendToken(nil, here, []byte("k"), Context{{1, 2}})
	for _, c := range []struct {
		name, reason string
		token        []byte
		cluster      ring.ClusterID
		key          string
	}{
		{"other key", "another key", token, here, "l"},
		{"other cluster", "another cluster", token, ring.ClusterID{9}, "k"},
		{"empty", "damaged", nil, here, "k"},
		{"cut", "damaged", token[:len(token)-1], here, "k"},
		{"longer", "damaged", append(bytes.Clone(token), 0), here, "k"},
		{"huge", "damaged", make([]byte, TokenSizeMax+1), here, "k"},
		{"text", "damaged", []byte("a token that somebody typed by hand"), here, "k"},
	} {
		_, err := ParseToken(c.token, c.cluster, []byte(c.key))
		if !errors.Is(err, ErrToken) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestTokenOfManyActorsFitsItsBound(t *testing.T) {
	var c Context
	for i := range SeenMax {
		c = append(c, Dot{Actor(i), 1<<64 - 1})
	}
	token := AppendToken(nil, here, []byte("k"), c)
	if got, err := ParseToken(token, here, []byte("k")); err != nil || !slices.Equal(got, c) {
		t.Fatalf("%d bytes: %v", len(token), err)
	}
	c = append(c, Dot{SeenMax, 1})
	if _, err := ParseToken(AppendToken(nil, here, []byte("k"), c), here, []byte("k")); !errors.Is(err, ErrToken) {
		t.Fatalf("one more: %v", err)
	}
}

func TestTokenFindsEveryDamagedByte(t *testing.T) {
	token := AppendToken(nil, here, []byte("k"), Context{{1, 2}, {3, 400}})
	for i := range token {
		for bit := range 8 {
			bad := bytes.Clone(token)
			bad[i] ^= 1 << bit
			if _, err := ParseToken(bad, here, []byte("k")); !errors.Is(err, ErrToken) {
				t.Fatalf("byte %d bit %d: %v", i, bit, err)
			}
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(AppendToken(nil, here, []byte("k"), Context{{1, 2}, {3, 400}}), true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, token []byte, mended bool) {
		token = bytes.Clone(token)
		if mended && len(token) >= 5 {
			token[0] = tokenFormat
			sum(token)
		}
		c, err := ParseToken(token, here, []byte("k"))
		if err != nil {
			if !errors.Is(err, ErrToken) {
				t.Fatal(err)
			}
			return
		}
		if again := AppendToken(nil, here, []byte("k"), c); !bytes.Equal(again, token) {
			t.Fatalf("%x\nis also written\n%x", token, again)
		}
	})
}

func BenchmarkToken(b *testing.B) {
	c, key, buf := benchRecord(1).Seen, benchRecord(1).Key, make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendToken(buf[:0], here, key, c)
		if _, err := ParseToken(buf, here, key); err != nil {
			b.Fatal(err)
		}
	}
}
