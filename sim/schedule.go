package sim

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Step is one fault of a schedule. It draws from a generator of its own, so that
// leaving out another step changes nothing of it.
type Step struct {
	At    time.Duration // since the story's beginning
	For   time.Duration // until it ends
	Fault string
	Seed  uint64
}

// String gives the step as ParseSchedule reads it.
func (s Step) String() string {
	return fmt.Sprintf("at %v for %v %s %d", s.At, s.For, strings.ReplaceAll(s.Fault, " ", "-"), s.Seed)
}

// ParseSchedule reads steps, one a line.
func ParseSchedule(text string) ([]Step, error) {
	var out []Step
	for i, line := range strings.Split(text, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		var s Step
		var at, length string
		if _, err := fmt.Sscanf(line, "at %s for %s %s %d", &at, &length, &s.Fault, &s.Seed); err != nil {
			return nil, fmt.Errorf("line %d: %q: want at TIME for TIME FAULT SEED: %w", i+1, line, err)
		}
		s.Fault = strings.ReplaceAll(s.Fault, "-", " ")
		var err error
		if s.At, err = time.ParseDuration(at); err == nil {
			s.For, err = time.ParseDuration(length)
		}
		if err == nil {
			_, err = faultNamed(s.Fault)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func faultNamed(name string) (Fault, error) {
	all := slices.Concat(AllFaults(), LossFaults(), OutageFaults(), RingFaults(), MoveFaults(), ResizeFaults(), ForceFaults())
	i := slices.IndexFunc(all, func(f Fault) bool { return f.Name == name })
	if i < 0 {
		return Fault{}, fmt.Errorf("there is no fault %q", name)
	}
	return all[i], nil
}

// draw makes a schedule: a new step every two seconds or so, each up to some
// seconds long, so that some overlap.
func draw(rng *rand.Rand, faults []Fault, length time.Duration) []Step {
	return drawEvery(rng, faults, length, 3*time.Second)
}

// drawEvery is draw with steps that are up to so far apart.
func drawEvery(rng *rand.Rand, faults []Fault, length, most time.Duration) []Step {
	var out []Step
	for at := time.Duration(0); len(faults) > 0; {
		at += time.Duration(rng.Int64N(int64(most))).Round(time.Millisecond)
		if at >= length {
			break
		}
		out = append(out, Step{
			At: at, For: time.Duration(rng.Int64N(int64(8 * time.Second))).Round(time.Millisecond),
			Fault: faults[rng.IntN(len(faults))].Name, Seed: rng.Uint64N(1 << 32),
		})
	}
	return out
}

// moments are how much later than a schedule says a fault begins, and how much later
// it ends: less than a millisecond. Schedules count whole milliseconds from when the
// last client has connected, and so do ticks of that client: what happens at one instant
// has no order.
func (s Step) moments() (begin, end time.Duration) {
	rng := rand.New(rand.NewPCG(s.Seed, 2))
	return time.Duration(rng.Int64N(int64(time.Millisecond))), time.Duration(rng.Int64N(int64(time.Millisecond)))
}

// Told is a fault that begins or ends.
type Told struct {
	At    time.Time
	Fault string
	Note  string // what it did, in a few words
	End   bool
}

// String tells it without the time.
func (t Told) String() string {
	if t.End {
		return "end of " + t.Fault
	}
	return t.Fault + " " + t.Note
}

// turn is the beginning or the end of a step.
type turn struct {
	at   time.Duration
	step int
	end  func() error // nil for a beginning
}

// befall plays a schedule until the context ends, and ends what has begun. It
// tells what was done.
func (c *Cluster) befall(ctx context.Context, steps []Step) (told []string, err error) {
	began := time.Now()
	var turns []turn
	for i, s := range steps {
		begin, _ := s.moments()
		turns = append(turns, turn{at: s.At + begin, step: i})
	}
	tell := func(t Told) {
		t.At = time.Now()
		told = append(told, fmt.Sprintf("%9.3fs  %v", t.At.Sub(began).Seconds(), t))
		c.tell(t)
	}
	for len(turns) > 0 {
		slices.SortStableFunc(turns, func(a, b turn) int { return cmp.Compare(a.at, b.at) })
		now := turns[0]
		turns = turns[1:]
		if err := c.pass(ctx, now.at-time.Since(began)); err != nil {
			return told, err
		}
		s := steps[now.step]
		switch {
		case now.end != nil:
			tell(Told{Fault: s.Fault, End: true})
			if err = now.end(); err != nil {
				return told, fmt.Errorf("end of %s: %w", s.Fault, err)
			}
		case ctx.Err() == nil:
			f, err := faultNamed(s.Fault)
			if err != nil {
				return told, err
			}
			note, end := f.Begin(c, rand.New(rand.NewPCG(s.Seed, 1)))
			tell(Told{Fault: s.Fault, Note: note})
			if end != nil { // some take their time to begin
				_, more := s.moments()
				turns = append(turns, turn{at: max(s.At, time.Since(began)) + s.For + more, step: now.step, end: end})
			}
		}
	}
	return told, c.pass(ctx, 1<<62) // clients go on until the end
}

// pass lets time pass, but not beyond the end, and looks at all machines every
// second.
func (c *Cluster) pass(ctx context.Context, d time.Duration) error {
	for deadline := time.Now().Add(d); ctx.Err() == nil; {
		left := time.Until(deadline)
		if left <= 0 {
			return nil
		}
		rest(ctx, min(left, boundsEvery))
		if err := c.Supervise(); err != nil {
			return err
		}
		if err := c.CheckBounds(); err != nil {
			return err
		}
		if err := c.CheckNotes(); err != nil {
			return err
		}
	}
	return nil
}

// rest sleeps, but not beyond the end.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
