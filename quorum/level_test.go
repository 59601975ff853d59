package quorum

import (
	"testing"

	"github.com/kithdb/kith/ring"
)

func TestMajoritiesAreTheLeastThatMeetEachOther(t *testing.T) {
	for n := 1; n <= 1000; n++ {
		if m := Majority(n); 2*m <= n || 2*(m-1) > n {
			t.Errorf("majority of %d is %d", n, m)
		}
	}
}

func TestResolve(t *testing.T) {
	for n := 1; n <= ring.ReplicasMax; n++ {
		for level := range 256 {
			got, err := Resolve(uint8(level), n)
			want := level
			switch level {
			case 0, 254:
				want = n/2 + 1
			case 255:
				want = n
			}
			if bad := want > n; bad != (err != nil) {
				t.Errorf("level %d of %d: error %v", level, n, err)
			} else if !bad && got != want {
				t.Errorf("level %d of %d is %d, want %d", level, n, got, want)
			}
		}
	}
	if _, err := Resolve(9, 3); err == nil || err.Error() != "9 of 3 homes" {
		t.Errorf("level 9 of 3: %v", err)
	}
	for _, n := range []int{-1, 0, ring.ReplicasMax + 1} {
		if _, err := Resolve(1, n); err == nil {
			t.Errorf("a partition of %d homes is no error", n)
		}
	}
}
