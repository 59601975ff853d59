package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// SavedMax is the most bytes of a saved run.
const SavedMax = 1 << 20

// Save gives a run of Swarm, shrunk or not, as text that a person can read and
// change: the seed, what is not as the seed draws it, and the schedule.
func (r *Result) Save() string {
	var b strings.Builder
	fmt.Fprintln(&b, "# A run of random faults; kith sim replay FILE plays it again.")
	if r.Err != nil {
		text, _, _ := strings.Cut(r.Err.Error(), "\n")
		fmt.Fprintf(&b, "# %s\n", text)
	}
	s := r.Story
	fmt.Fprintf(&b, "seed %d\nlength %v\nclients %d\nkeys %d\npause %v\nvalues %d\n", r.Options.Seed, s.Length, s.Clients, s.Keys, s.Pause, s.ValueSize)
	if r.Options.LyingDisks {
		fmt.Fprintln(&b, "disks lie")
	}
	b.WriteString(r.Schedule())
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// ParseSaved reads what Save wrote. What a line does not say is as Swarm draws
// it from the seed; the schedule is that of the text, even if it is empty. Lines
// that begin with # say nothing.
func ParseSaved(text string) (Options, Story, error) {
	lines := strings.Split(text, "\n")
	seed, found := uint64(0), false
	said := map[string]string{}
	lie := false
	for i, line := range lines {
		word, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "at", "":
			continue
		case "seed":
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return Options{}, Story{}, fmt.Errorf("line %d: seed %q: want a number from 0 to 2^64-1", i+1, value)
			}
			seed, found = n, true
		case "length", "clients", "keys", "pause", "values":
			said[word] = strings.TrimSpace(value)
		case "disks":
			if lie = strings.TrimSpace(value) == "lie"; !lie {
				return Options{}, Story{}, fmt.Errorf("line %d: disks %q: want lie, or no such line", i+1, value)
			}
		default:
			if !strings.HasPrefix(word, "#") {
				return Options{}, Story{}, fmt.Errorf("line %d: %q: want seed, length, clients, keys, pause, values, disks or at", i+1, word)
			}
		}
		lines[i] = ""
	}
	if !found {
		return Options{}, Story{}, fmt.Errorf("there is no line with a seed")
	}
	o, s := Swarm(seed, 2*time.Minute)
	o.LyingDisks = lie
	if err := s.override(said); err != nil {
		return Options{}, Story{}, err
	}
	steps, err := ParseSchedule(strings.Join(lines, "\n"))
	if err != nil {
		return Options{}, Story{}, err
	}
	s.Steps = append([]Step{}, steps...) // an empty schedule is one, too
	return o, s, nil
}

// override sets what a saved run says of the story.
func (s *Story) override(said map[string]string) error {
	for _, set := range []struct {
		word     string
		number   *int
		time     *time.Duration
		min, max int64
	}{
		{word: "length", time: &s.Length, min: int64(time.Millisecond), max: int64(24 * time.Hour)},
		{word: "clients", number: &s.Clients, min: 1, max: 1000},
		{word: "keys", number: &s.Keys, min: 1, max: 100_000},
		{word: "pause", time: &s.Pause, min: 1, max: int64(time.Hour)},
		{word: "values", number: &s.ValueSize, max: 1 << 20},
	} {
		value, ok := said[set.word]
		if !ok {
			continue
		}
		var got int64
		var err error
		least, most := fmt.Sprint(set.min), fmt.Sprint(set.max)
		if set.time != nil {
			*set.time, err = time.ParseDuration(value)
			got = int64(*set.time)
			least, most = time.Duration(set.min).String(), time.Duration(set.max).String()
		} else {
			*set.number, err = strconv.Atoi(value)
			got = int64(*set.number)
		}
		if err != nil || got < set.min || got > set.max {
			return fmt.Errorf("%s %q: want %s to %s", set.word, value, least, most)
		}
	}
	return nil
}
