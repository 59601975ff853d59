package gossip

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"pgregory.net/rapid"

	"github.com/kithdb/kith/ring"
)

// meta wraps tags as serf does.
func meta(body string) []byte {
	head := []byte{serfTags, 0x81, 0xa0 | byte(len(tagKey))}
	head = append(head, tagKey...)
	switch n := len(body); {
	case n < 32:
		head = append(head, 0xa0|byte(n))
	default:
		head = append(head, 0xda, byte(n>>8), byte(n))
	}
	return append(head, body...)
}

func text(most int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		return string(rapid.SliceOfN(rapid.Byte(), 0, most).Draw(t, "text"))
	})
}

func drawTags(t *rapid.T) tags {
	var c ring.ClusterID
	var d [8]byte
	copy(c[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "cluster"))
	copy(d[:], rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "digest"))
	return tags{
		state: State{
			Cluster: c, Digest: d,
			Epoch: rapid.Uint64().Draw(t, "epoch"),
			Ready: text(ReadyMax).Draw(t, "ready"),
		},
		min: rapid.Byte().Draw(t, "min"), max: rapid.Byte().Draw(t, "max"),
		run: run{
			start: time.UnixMilli(rapid.Int64Range(0, startMax).Draw(t, "start")),
			nonce: rapid.Uint64().Draw(t, "nonce"),
		},
		settled: rapid.Bool().Draw(t, "settled"),
		rpcAddr: text(AddrMax).Draw(t, "rpc"),
		name:    text(NameMax).Draw(t, "name"),
		zone:    text(ZoneMax).Draw(t, "zone"),
	}
}

func TestTagsComeBackAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTags(t)
		body := want.encode()
		got, err := decodeTags(body)
		if err != nil || got != want {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
		}
		wrapped := meta(body)
		if len(wrapped) > memberlist.MetaMaxSize {
			t.Fatalf("%d bytes of tags, gossip carries %d", len(wrapped), memberlist.MetaMaxSize)
		}
		if got, err = decodeMeta(wrapped); err != nil || got != want {
			t.Fatalf("wrapped: got %+v, %v\nwant %+v", got, err, want)
		}
	})
}

func TestTagsOfANewerVersionAreReadAsFarAsKnown(t *testing.T) {
	want := tags{name: "n", state: State{Epoch: 3}, run: run{start: time.UnixMilli(1)}}
	got, err := decodeTags(want.encode() + "what comes later")
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestTagsCutShortOrOutOfBoundsAreRefused(t *testing.T) {
	full := (&tags{name: "n", zone: "z", rpcAddr: "h:1", state: State{Epoch: 300, Ready: "ready"}}).encode()
	for n := range len(full) {
		if _, err := decodeTags(full[:n]); err == nil {
			t.Errorf("the first %d of %d bytes pass", n, len(full))
		}
		if _, err := decodeMeta(meta(full)[:n]); err == nil {
			t.Errorf("the first %d wrapped bytes pass", n)
		}
	}
	for name, spoil := range map[string]func(*tags){
		"RPC address": func(t *tags) { t.rpcAddr = strings.Repeat("x", AddrMax+1) },
		"name":        func(t *tags) { t.name = strings.Repeat("x", NameMax+1) },
		"zone":        func(t *tags) { t.zone = strings.Repeat("x", ZoneMax+1) },
		"ready":       func(t *tags) { t.state.Ready = strings.Repeat("x", ReadyMax+1) },
		"start":       func(t *tags) { t.run.start = time.UnixMilli(startMax + 1) },
	} {
		var long tags
		spoil(&long)
		if _, err := decodeTags(long.encode()); err == nil {
			t.Errorf("a %s out of bounds passes", name)
		}
	}
	if _, err := decodeTags("\x02" + full[1:]); err == nil {
		t.Error("another layout passes")
	}
	if _, err := decodeMeta(append(meta(full), 0)); err == nil {
		t.Error("bytes after the map pass")
	}
}

func FuzzTagsOfAStranger(f *testing.F) {
	full := (&tags{name: "n", zone: "z", rpcAddr: "h:1", settled: true, state: State{Epoch: 300, Ready: "ready"}}).encode()
	f.Add(meta(full))
	f.Add(meta(""))
	f.Add([]byte{serfTags, 0x81, 0xa1, 'k', 0xda, 0xff, 0xff})
	f.Add([]byte{serfTags, 0xdf, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := decodeTags(got.encode())
		if err != nil || again != got {
			t.Fatalf("decoded %+v, and after another round %+v, %v", got, again, err)
		}
	})
}
