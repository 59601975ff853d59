package client

import (
	"testing"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// Writers at every home of a key, apart from each other, leave a sibling each of the
// largest size: who is to resolve them must be able to read them.
func TestALargestValueOfEveryHomeCanBeRead(t *testing.T) {
	var resp api.GetResponse
	value := make([]byte, ValueMax)
	for range ring.ReplicasMax {
		resp.Values = append(resp.Values, api.Value{Data: value})
	}
	if size := len(resp.AppendWire(nil)); size > frameMax {
		t.Errorf("%d siblings of %d bytes are answered with %d bytes, and a client takes %d", ring.ReplicasMax, ValueMax, size, frameMax)
	}
}
