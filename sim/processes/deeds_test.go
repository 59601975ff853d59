package processes

import (
	"slices"
	"testing"

	"github.com/kithdb/kith/sim"
)

// What a home shows is told by whose it is; what nobody should see by its name.
func TestShowsTellsWhoseValuesAreThere(t *testing.T) {
	f := &fate{last: [2]*sim.Op{{Value: "n1.7"}, {Value: "n3.2"}}}
	for _, tc := range []struct {
		values []string
		want   string
	}{
		{nil, nobodys},
		{[]string{"n1.7"}, ours},
		{[]string{"n3.2"}, theirs},
		{[]string{"n3.2", "n1.7"}, both},
		{[]string{"n1.6"}, "n1.6"},
		{[]string{"n1.6", "n1.7"}, "here and n1.6"},
	} {
		if got := f.shows(tc.values); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.values, got, tc.want)
		}
	}
	if got := new(fate).shows([]string{""}); got != "" {
		t.Errorf("a value without a name on a key that nobody wrote to: %q", got)
	}
}

// The kinds hold what a story of copies has to: what is shown comes from a side that
// put it, contexts and blind writes, deletes, and values that expire at either time.
func TestKindsAreWhole(t *testing.T) {
	names := map[string]bool{}
	var blind, known, deleted, brief, lasts, apart bool
	for _, k := range kinds {
		if names[k.name] {
			t.Errorf("two kinds are called %q", k.name)
		}
		names[k.name] = true
		apart = apart || k.apart
		for side, deeds := range [][]deed{k.here, k.there} {
			whose := []string{ours, theirs}[side]
			for i, d := range deeds {
				if d.blind && d.delete || k.fresh && i == 0 && !d.blind {
					t.Errorf("%s: deed %d %s cannot be done: %+v", k.name, i, whose, d)
				}
				blind, known, deleted = blind || d.blind, known || !d.blind, deleted || d.delete
				brief, lasts = brief || d.ttl == mayfly, lasts || d.ttl == lasting && k.lasts()
			}
			for _, want := range []string{k.want, k.finally()} {
				if (want == whose || want == both) && (len(deeds) == 0 || deeds[len(deeds)-1].delete) {
					t.Errorf("%s: %q shall be shown, and %s nothing was put last", k.name, want, whose)
				}
			}
		}
		if !slices.Contains([]string{nobodys, ours, theirs, both}, k.want) {
			t.Errorf("%s: nobody can show %q", k.name, k.want)
		}
	}
	if !blind || !known || !deleted || !brief || !lasts || !apart {
		t.Errorf("something is missing: blind %v, with contexts %v, deletes %v, expiring soon %v, expiring later %v, only apart %v",
			blind, known, deleted, brief, lasts, apart)
	}
}
