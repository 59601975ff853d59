package ring

import (
	"encoding/binary"
	"fmt"

	"pgregory.net/rapid"
)

var testCluster = ClusterID{0xc1}

// testID is an ID that looks random and is the same every time.
func testID(n int) (id NodeID) {
	binary.BigEndian.PutUint64(id[:8], scramble(uint64(n)+1))
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

func testMember(n int) Member { return Member{ID: testID(n), Name: fmt.Sprintf("n%d", n), Weight: 1} }

func testMembers(n int) []Member {
	members := make([]Member, n)
	for i := range members {
		members[i] = testMember(i)
	}
	return members
}

func found(t rapid.TB, members []Member, partitions, replicas int) *Record {
	t.Helper()
	r, err := Found(testCluster, "kith", members[0], partitions, replicas)
	if err != nil {
		t.Fatal(err)
	}
	r, err = r.WithTable(members)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
