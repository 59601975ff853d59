package processes

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Agree holds the results of one story in two worlds against each other: both
// kept every promise, were asked the same questions and gave the same answers,
// and noticed and healed the same things within the bounds. The error names
// everything that differs.
func Agree(a, b *Result) error {
	var errs []error
	for _, r := range []*Result{a, b} {
		for _, c := range r.Run.Checks {
			if !c.OK {
				errs = append(errs, fmt.Errorf("%s: %s: %s", r.Run.World, c.Name, c.Detail))
			}
		}
	}
	asked := map[Question]bool{}
	for _, r := range []*Result{a, b} {
		for q := range r.Answers {
			asked[q] = true
		}
	}
	for _, q := range slices.SortedFunc(maps.Keys(asked), func(x, y Question) int { return strings.Compare(x.String(), y.String()) }) {
		in := func(r *Result) string { return strings.Join(slices.Sorted(slices.Values(r.Answers[q])), ", ") }
		if in(a) != in(b) {
			errs = append(errs, fmt.Errorf("%v: %s says %q, %s says %q", q, a.Run.World, in(a), b.Run.World, in(b)))
		}
	}
	if len(asked) == 0 {
		errs = append(errs, errors.New("no question was asked"))
	}
	names := func(r *Result) []string { return slices.Sorted(maps.Keys(r.Took)) }
	if !slices.Equal(names(a), names(b)) {
		errs = append(errs, fmt.Errorf("%s waited for %v, %s for %v", a.Run.World, names(a), b.Run.World, names(b)))
	}
	return errors.Join(errs...)
}
