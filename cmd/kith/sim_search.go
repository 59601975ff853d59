package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// simSearch is what the flags of sim search ask for.
type simSearch struct {
	play
	seeds, from     uint64
	minutes         float64
	workers, shrink int
	keepGoing       bool
	output          string
	terminal        bool // people watch
}

func (a *app) simSearchCommand() *cobra.Command {
	var f simSearch
	cmd := &cobra.Command{
		Use:   "search",
		Short: "Look for a schedule of random faults that breaks a promise",
		Long: `Search plays seeds one after another on all processors. Each seed draws a
cluster, clients and a schedule of faults of its own, and all promises are checked
in the end. It stops at the first that is broken, tells the story of the key,
and shrinks the run to a short one that still breaks a promise.`,
		Example: `  kith sim search --seeds 200 --length 20s
  kith sim search --changes --minutes 10
  kith sim search --from 5000 --seeds 1000 --keep-going --format json`,
		Args: a.want(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			f.terminal = isTerminal(a.errs)
			return a.simSearch(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.Uint64Var(&f.seeds, "seeds", 1000, "how many seeds to play (0: until --minutes are over)")
	flags.Float64Var(&f.minutes, "minutes", 0, "begin no new seed after so many minutes of real time (0: no bound)")
	flags.Uint64Var(&f.from, "from", 1, "the first seed")
	flags.IntVar(&f.workers, "workers", runtime.NumCPU(), "processes side by side")
	flags.IntVar(&f.shrink, "shrink", shrinkRuns, "shrink a failure with at most so many runs (0: don't)")
	flags.BoolVar(&f.keepGoing, "keep-going", false, "don't stop at the first broken promise")
	flags.StringVarP(&f.output, "output", "o", "", "write the shortest run that broke a promise to this file")
	f.play.flags(flags)
	return cmd
}

func (f *simSearch) check() error {
	switch {
	case f.minutes < 0:
		return usagef("--minutes %v: want 0 or more", f.minutes)
	case f.seeds == 0 && f.minutes == 0:
		return usagef("--seeds 0 needs --minutes, or the search has no end")
	case f.workers < 1:
		return usagef("--workers %d: want 1 or more", f.workers)
	case f.shrink < 0:
		return usagef("--shrink %d: want 0 or more", f.shrink)
	}
	return f.play.check()
}

// search is one search under way.
type search struct {
	simSearch
	began time.Time
	stops []context.CancelFunc // one for each process

	mu    sync.Mutex // guards what follows
	total searchTotal
	found int // the process that ended the search, counted from 1
}

// searchTotal is what a search has found. Field names are a contract: only
// additions.
type searchTotal struct {
	Schema      string                 `json:"schema"`
	From        uint64                 `json:"from"`
	Length      float64                `json:"length_seconds"` // of a run
	Seeds       int                    `json:"seeds"`          // played to their end
	Virtual     float64                `json:"virtual_seconds"`
	Wall        float64                `json:"wall_seconds"`
	Processor   float64                `json:"processor_seconds"` // wall time of all runs
	Operations  operationsJSON         `json:"operations"`
	Faults      map[string]*faultTotal `json:"faults"`
	Failures    []*failure             `json:"failures"`
	Shortest    []*failure             `json:"shortest"` // of Failures, shrunk
	Interrupted bool                   `json:"interrupted"`
}

type operationsJSON struct {
	Done    int `json:"done"`
	Refused int `json:"refused"`
	Unknown int `json:"unknown"`
}

// faultTotal is what one kind of fault has done.
type faultTotal struct {
	Injected int `json:"injected"`
	Seeds    int `json:"seeds"` // in which it bit
	Bites    int `json:"bites"` // operations that did not succeed while it was on
}

func (a *app) simSearch(ctx context.Context, f simSearch) error {
	s := &search{simSearch: f, began: time.Now()}
	s.total = searchTotal{Schema: "sim-search/v1", From: f.from, Length: f.length.Seconds(), Faults: map[string]*faultTotal{}, Failures: []*failure{}, Shortest: []*failure{}}
	bar := a.watch(s.line)
	err := s.run(ctx)
	bar.close()
	s.total.Wall = time.Since(s.began).Seconds()
	s.total.Interrupted = ctx.Err() != nil
	slices.SortFunc(s.total.Failures, func(a, b *failure) int { return int(int64(a.Seed) - int64(b.Seed)) })
	if err2 := a.tellSearch(&s.total, f); err2 != nil {
		return err2
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	case len(s.total.Failures) > 0:
		return &exitError{status: exitBroken}
	}
	return nil
}

// run plays in all processes and waits for them.
func (s *search) run(ctx context.Context) error {
	var workers sync.WaitGroup
	errs := make([]error, s.workers)
	ctxs := make([]context.Context, s.workers)
	for w := range s.workers {
		var stop context.CancelFunc
		ctxs[w], stop = context.WithCancel(ctx)
		defer stop()
		s.stops = append(s.stops, stop)
	}
	for w := range s.workers {
		ask := playRequest{First: s.from + uint64(w), Every: uint64(s.workers), Length: s.length, LyingDisks: s.lyingDisks, Changes: s.changes, Shrink: s.shrink}
		if s.seeds > 0 {
			if ask.Seeds = (s.seeds + uint64(s.workers-1-w)) / uint64(s.workers); ask.Seeds == 0 {
				continue
			}
		}
		workers.Go(func() {
			seed, err := playing(ctxs[w], ask, s.watchdog, func(l playLine) { s.take(w, l) })
			if err != nil && ctxs[w].Err() == nil {
				errs[w] = fmt.Errorf("seed %d (%s): %w", seed, s.replay(seed), err)
				s.end(w)
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}

// end has all processes but one end what they do.
func (s *search) end(but int) {
	for w, stop := range s.stops {
		if w != but {
			stop()
		}
	}
}

// take enters what a process says.
func (s *search) take(w int, l playLine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.found > 0 && s.found != w+1 {
		return // another one has ended the search
	}
	switch {
	case l.Seed != nil:
		if s.minutes > 0 && time.Since(s.began) > time.Duration(s.minutes*float64(time.Minute)) {
			s.stops[w]()
		}
	case l.Played != nil:
		s.enter(l.Played)
		if l.Played.Failure != nil && !s.keepGoing {
			s.found = w + 1
			s.end(w) // this one shrinks what it has found
			if s.shrink == 0 {
				s.stops[w]()
			}
		}
	case l.Shrunk != nil:
		s.total.Shortest = append(s.total.Shortest, l.Shrunk)
		if !s.keepGoing {
			s.stops[w]()
		}
	}
}

// enter adds one seed. The search is locked.
func (s *search) enter(p *played) {
	t := &s.total
	t.Seeds++
	t.Virtual += p.Virtual.Seconds()
	t.Processor += p.Wall.Seconds()
	t.Operations.Done += p.Done
	t.Operations.Refused += p.Refused
	t.Operations.Unknown += p.Unknown
	for kind, n := range p.Injected {
		fault := t.Faults[kind]
		if fault == nil {
			fault = &faultTotal{}
			t.Faults[kind] = fault
		}
		fault.Injected += n
		if bites := p.Bites[kind]; bites > 0 {
			fault.Seeds++
			fault.Bites += bites
		}
	}
	if p.Failure != nil {
		t.Failures = append(t.Failures, p.Failure)
	}
}

// line is the progress.
func (s *search) line() (string, float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.total
	faults := 0
	kinds := ""
	for _, kind := range slices.Sorted(maps.Keys(t.Faults)) {
		faults += t.Faults[kind].Injected
		if !s.terminal {
			kinds += fmt.Sprintf(", %s %d", kind, t.Faults[kind].Injected)
		}
	}
	done := -1.0
	if s.seeds > 0 {
		done = float64(t.Seeds) / float64(s.seeds)
	}
	if s.minutes > 0 {
		done = max(done, min(1, time.Since(s.began).Minutes()/s.minutes))
	}
	return fmt.Sprintf("%d seeds, %.1f virtual hours, operations %d done %d refused %d unknown, %d faults%s, %d failures",
		t.Seeds, t.Virtual/3600, t.Operations.Done, t.Operations.Refused, t.Operations.Unknown, faults, kinds, len(t.Failures)), done
}

// tellSearch prints what was found.
func (a *app) tellSearch(t *searchTotal, f simSearch) error {
	if len(t.Shortest) > 0 {
		if err := writeSaved(f.output, t.Shortest[0]); err != nil {
			return err
		}
	}
	if a.format == formatJSON {
		return a.writeJSON(t)
	}
	rows := [][]string{{"FAULT", "INJECTED", "SEEDS BITTEN", "OPERATIONS"}}
	for _, kind := range slices.Sorted(maps.Keys(t.Faults)) {
		n := t.Faults[kind]
		rows = append(rows, []string{kind, fmt.Sprint(n.Injected), fmt.Sprint(n.Seeds), fmt.Sprint(n.Bites)})
	}
	if err := a.table(rows); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "\n%d seeds from %d, %.2f virtual hours in %s; operations: %d done, %d refused, %d unknown\n", t.Seeds, t.From, t.Virtual/3600,
		duration(seconds(t.Wall)), t.Operations.Done, t.Operations.Refused, t.Operations.Unknown)
	if len(t.Failures) == 0 {
		fmt.Fprintln(a.out, "every promise held")
		return nil
	}
	for _, broken := range t.Failures {
		short, file := broken, "FILE"
		for _, s := range t.Shortest {
			if s.Seed == broken.Seed {
				short = s
				if s == t.Shortest[0] && f.output != "" {
					file = f.output
				}
			}
		}
		fmt.Fprintln(a.out)
		a.tellFailure(short, broken.Faults, file)
		fmt.Fprintf(a.out, "\nas it was found: %s\n", f.replay(broken.Seed))
	}
	return nil
}
