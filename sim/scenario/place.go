package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// placesMax is how many names are tried for a key that is to have certain homes.
const placesMax = 10_000

// place finds names for the keys that are to be at home on certain nodes: which
// nodes are homes of a name is the ring's.
func (r *runner) place() error {
	for _, k := range r.Keys {
		want := r.indexes(k.Homes)
		slices.Sort(want)
		name := k.Key
		for n := 1; !slices.Equal(slices.Sorted(slices.Values(r.homesOf(name))), want); n++ {
			if n > placesMax {
				return fmt.Errorf("line %d: no partition is at home on %s: take more partitions", k.Line, strings.Join(r.list(want), " "))
			}
			name = fmt.Sprintf("%s-%d", k.Key, n)
		}
		r.keys[k.Key] = name
	}
	return nil
}

// keyNamed is the real name of a key of the script.
func (r *runner) keyNamed(key string) string {
	if name := r.keys[key]; name != "" {
		return name
	}
	return key
}
