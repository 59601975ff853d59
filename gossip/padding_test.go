package gossip

import (
	"strings"
	"testing"
	"time"
)

// What keeps changes of tags apart in memberlist's queue means nothing to
// readers, and never makes tags longer than serf takes.
func TestPaddingChangesNothingButTheLength(t *testing.T) {
	for _, name := range []string{"n", strings.Repeat("n", NameMax)} {
		for _, addr := range []string{"10.0.0.1:7600", strings.Repeat("h", AddrMax-5) + ":7600"} {
			want := tags{
				state: State{Cluster: clusterID(1), Epoch: 1 << 60, Ready: strings.Repeat("r", ReadyMax)},
				min:   1, max: 2, run: run{start: time.UnixMilli(1 << 50), nonce: 7}, settled: true,
				rpcAddr: addr, name: name, zone: strings.Repeat("z", ZoneMax),
			}
			for n := range paddingMax {
				bare := want.encode()
				text := padded(map[string]string{tagKey: bare}, n)[tagKey]
				if grown := len(text) - len(bare); grown != n && len(text) != tagsMax || len(text) > tagsMax {
					t.Fatalf("%d bytes of padding made %d out of %d", n, len(text), len(bare))
				}
				got, err := decodeTags(text)
				if err != nil || got.encode() != bare {
					t.Fatalf("with %d bytes of padding: %v: %+v", n, err, got)
				}
			}
		}
	}
}
