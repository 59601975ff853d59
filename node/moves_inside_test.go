package node

import (
	"testing"

	"github.com/kithdb/kith/rpc/api"
)

// A few bytes a second are no pace by which megabytes of little records would last for
// days, nor is what is left of a rate when nothing moves.
func TestForecastOfMovesIsOfTheirPaceNow(t *testing.T) {
	for _, c := range []struct {
		what  string
		slots int
		bytes uint64
		now   api.MovesResponse
		want  float64
	}{
		{"nothing moves", 600, 5 << 20, api.MovesResponse{Rate: 8}, 0},
		{"moves have begun, and none has ended", 600, 6 << 20, api.MovesResponse{Running: 8, Rate: 1 << 20}, 6},
		{"little data", 600, 5 << 20, api.MovesResponse{Queued: 90, Running: 10, Rate: 8, Seconds: 5}, 30},
		{"no bytes at all", 600, 0, api.MovesResponse{Queued: 90, Running: 10, Seconds: 5}, 30},
		{"much data", 600, 600 << 20, api.MovesResponse{Queued: 90, Running: 10, Rate: 10 << 20, Seconds: 20}, 60},
		{"nobody tells of a pace", 600, 5 << 20, api.MovesResponse{Running: 8}, 0},
	} {
		if got := lasts(c.slots, c.bytes, &c.now); got != c.want {
			t.Errorf("%s: %v seconds, want %v", c.what, got, c.want)
		}
	}
}
