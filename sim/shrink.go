package sim

import "time"

// Shrink reduces a run that failed to a shorter one that still fails: fewer
// faults, clients and keys, and an earlier end. It plays at most runs of them and
// returns the shortest that has failed.
func Shrink(failed *Result, runs int) *Result {
	best := failed
	try := func(s Story) bool {
		if runs == 0 {
			return false
		}
		runs--
		if r := Run(best.Options, s); r.Err != nil {
			best = r
			return true
		}
		return false
	}
	for changed := true; changed && runs > 0; {
		changed = shrinkSteps(&best, try)
		for _, smaller := range []func(*Story) bool{fewerClients, fewerKeys, noPadding, earlierEnd} {
			for s := best.Story; smaller(&s) && try(s); s = best.Story {
				changed = true
			}
		}
	}
	return best
}

// shrinkSteps leaves out halves of the schedule, then quarters, down to single
// steps.
func shrinkSteps(best **Result, try func(Story) bool) (changed bool) {
	for size := (len((*best).Story.Steps) + 1) / 2; size > 0; size /= 2 {
		for from := 0; from < len((*best).Story.Steps); {
			s := (*best).Story
			kept := append([]Step{}, s.Steps[:from]...)
			s.Steps = append(kept, s.Steps[min(from+size, len(s.Steps)):]...)
			if try(s) {
				changed = true // the next ones have moved here
				continue
			}
			from += size
		}
	}
	return changed
}

func fewerClients(s *Story) bool {
	if s.Clients <= 1 {
		return false
	}
	s.Clients--
	return true
}

func fewerKeys(s *Story) bool {
	if s.Keys <= 1 {
		return false
	}
	s.Keys--
	return true
}

func noPadding(s *Story) bool {
	if s.ValueSize == 0 {
		return false
	}
	s.ValueSize = 0
	return true
}

func earlierEnd(s *Story) bool {
	if s.Length < 2*time.Second {
		return false
	}
	s.Length = s.Length * 3 / 4
	return true
}
