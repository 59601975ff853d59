package kv_test

import (
	"testing"

	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim"
)

// Levels in zones, in two families of strict ones: those that meet anywhere, and those
// that meet for somebody in zone a.
var (
	eachAnywhere = asks{
		reads: []asking{
			{level: api.EachQuorum, strict: true}, {level: api.Quorum, strict: true}, {level: api.All, strict: true},
			{level: api.One}, {level: api.LocalQuorum, zone: "a"}, {level: api.LocalQuorum},
		},
		writes: []asking{
			{level: api.EachQuorum, strict: true}, {level: api.Quorum, strict: true}, {level: api.All, strict: true},
			{level: api.LocalQuorum, zone: "b"}, {level: api.LocalQuorum},
		},
	}
	localInA = asks{
		reads: []asking{
			{level: api.LocalQuorum, zone: "a", strict: true}, {level: api.LocalQuorum, zone: "a", strict: true}, {level: api.EachQuorum, strict: true},
			{level: api.One}, {level: api.LocalQuorum}, {level: api.Quorum},
		},
		writes: []asking{
			{level: api.LocalQuorum, zone: "a", strict: true}, {level: api.LocalQuorum, zone: "a", strict: true}, {level: api.EachQuorum, strict: true},
			{level: api.LocalQuorum, zone: "b"}, {level: api.Quorum},
		},
	}
	twoZones = []string{"a", "b", "a", "b", "a", "b"}
)

// TestRandomFaultsInZones is TestRandomFaultsAgainstTheOracle with levels in zones.
func TestRandomFaultsInZones(t *testing.T) {
	seeds := seedsOf(10, 1000)
	for name, asks := range map[string]asks{"each-quorum": eachAnywhere, "local-quorum": localInA} {
		told := map[sim.Outcome]int{}
		for seed := range uint64(seeds) {
			inZones(t, seed, twoZones, 4, func(w *world) {
				r := &randomRun{w: w, seed: seed, history: sim.NewHistory(), epoch: w.record.Epoch, asks: asks}
				r.run()
				for _, o := range []sim.Outcome{sim.Done, sim.Refused, sim.Unknown} {
					told[o] += r.history.Count(o)
				}
			})
			if t.Failed() {
				t.Fatalf("%s, seed %d", name, seed)
			}
		}
		t.Logf("%s: %d done, %d refused, %d unknown", name, told[sim.Done], told[sim.Refused], told[sim.Unknown])
		if told[sim.Refused] == 0 || told[sim.Unknown] == 0 || told[sim.Done] < 10*seeds {
			t.Errorf("%s: the faults do not bite", name)
		}
	}
}

// TestRandomMovesInZones is TestRandomMovesAgainstTheOracle with levels in zones. One
// member leaves at a time, so that each zone keeps two homes.
func TestRandomMovesInZones(t *testing.T) {
	for name, asks := range map[string]asks{"each-quorum": eachAnywhere, "local-quorum": localInA} {
		t.Run(name, func(t *testing.T) { randomMoves(t, 5, course{zones: twoZones, replicas: 4, leaving: 1, asks: asks}) })
	}
}
