package main

import (
	"bytes"
	"testing"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/rpc/api"
)

func TestInspectHasALineForEachSiblingOfEachCopy(t *testing.T) {
	dot := func(seq uint64) api.DotInfo { return api.DotInfo{Actor: "0123456789abcdef", Seq: seq} }
	seen := &client.Inspection{Partition: 5, Slot: 80, Epoch: 2, Copies: []client.InspectedCopy{
		{Member: "aaaaaaaaaaaaaaaa", Name: "n1", Found: true, Digest: "d1d1d1d1d1d1d1d1", Siblings: []client.InspectedSibling{
			{DotInfo: dot(1), Written: 1000, Size: 2048, Digest: "v1v1v1v1v1v1"},
			{DotInfo: dot(2), Written: 2000, Tombstone: true},
			{DotInfo: dot(3), Written: 3000, Expiry: 4000, Expired: true, Size: 1, Digest: "v3v3v3v3v3v3"},
		}},
		{Member: "bbbbbbbbbbbbbbbb", Error: "unreachable"},
		{Member: "cccccccccccccccc", Name: "n3"},
		{Member: "dddddddddddddddd", Name: "n4", StandsInFor: "bbbbbbbbbbbbbbbb", Found: true, Digest: "d4d4d4d4d4d4d4d4", Siblings: []client.InspectedSibling{
			{DotInfo: dot(1), Written: 1000, Size: 2048, Digest: "v1v1v1v1v1v1"},
		}},
		{Member: "dddddddddddddddd", Name: "n4", StandsInFor: "eeeeeeeeeeeeeeee", Found: true, Digest: "00"},
	}, Why: []string{"because", "and so on"}}
	const want = `partition 5, slot 80, epoch 2
COPY             DIGEST    DOT         KIND         SIZE     WRITTEN                   EXPIRES                   VALUE DIGEST
n1               d1d1d1d1  01234567:1  value        2.0 KiB  1970-01-01T00:00:01.000Z                            v1v1v1v1
n1               d1d1d1d1  01234567:2  deleted               1970-01-01T00:00:02.000Z                            
n1               d1d1d1d1  01234567:3  expired      1 B      1970-01-01T00:00:03.000Z  1970-01-01T00:00:04.000Z  v3v3v3v3
bbbbbbbb                               unreachable                                                               
n3                                     no record                                                                 
n4 for bbbbbbbb  d4d4d4d4  01234567:1  value        2.0 KiB  1970-01-01T00:00:01.000Z                            v1v1v1v1
n4 for eeeeeeee  00                    no sibling                                                                
because
and so on
`
	var out bytes.Buffer
	a := &app{out: &out, format: formatTable}
	if err := a.printInspect([]byte("k"), seen); err != nil || out.String() != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, out.String(), want)
	}
	out.Reset()
	if err := a.printWhy([]byte("k"), seen); err != nil || out.String() != "because\nand so on\n" {
		t.Errorf("%v, got %q", err, out.String())
	}
}
