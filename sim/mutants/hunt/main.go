// Command hunt plays seeds of random schedules in order until a promise is
// broken, shrinks the schedule that broke it, and prints what it found as one
// line of JSON. Package mutants builds it once for every bug that it plants.
//
// Its exit status is 0 whether something was found or not, 2 for bad usage, and
// Go's own after a panic.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/sim"
)

func main() {
	search := flag.String("search", "swarm", "the search to use: "+strings.Join(slices.Sorted(maps.Keys(searches)), ", "))
	from := flag.Uint64("from", 0, "the first seed")
	seeds := flag.Uint64("seeds", 2000, "how many seeds to play at most")
	length := flag.Duration("length", 15*time.Second, "the virtual length of a story")
	shrink := flag.Int("shrink", 60, "how many runs to shrink with at most; 0 does not shrink")
	words := flag.Bool("words", false, "print the nodes' words of the run that failed to standard error")
	flag.Parse()
	draw, ok := searches[*search]
	if !ok || flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "hunt: there is no search %q, or too many arguments\n", *search)
		os.Exit(2)
	}
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(400)
	f := hunt(draw, *from, *seeds, *length)
	if f.failed != nil && *shrink > 0 {
		f.shrink(*shrink)
	}
	if f.failed != nil && *words {
		fmt.Fprint(os.Stderr, f.failed.Log)
	}
	if err := json.NewEncoder(os.Stdout).Encode(f.Found); err != nil {
		fmt.Fprintln(os.Stderr, "hunt:", err)
		os.Exit(1)
	}
}

// Found is what a hunt has found.
type Found struct {
	// Promise that was broken; empty if none was. A run that came to no end
	// has "the story can be played".
	Promise string
	Seed    uint64 // that broke it
	Seeds   uint64 // played, with that one
	Virtual time.Duration
	Wall    time.Duration // without shrinking
	// Before and After are the faults in the schedule before and after it was
	// shrunk, Shrunk the schedule then.
	Before, After int
	Shrunk        string
	Shrinking     time.Duration // wall time
	Error         string        // of the shortest run
}

type found struct {
	Found
	failed *sim.Result
}

func hunt(draw search, from, seeds uint64, length time.Duration) *found {
	f := &found{}
	began := time.Now()
	for seed := from; seed < from+seeds && f.failed == nil; seed++ {
		o, s := draw(seed, length)
		r := sim.Run(o, s)
		f.Seeds++
		f.Virtual += r.Virtual
		if r.Err != nil {
			f.Seed, f.failed = seed, r
			f.Promise, f.Error = promise(r.Err), r.Err.Error()
			f.Before = len(r.Story.Steps)
			f.After, f.Shrunk = f.Before, r.Schedule()
		}
	}
	f.Wall = time.Since(began)
	return f
}

func (f *found) shrink(runs int) {
	began := time.Now()
	short := sim.Shrink(f.failed, runs)
	f.failed = short
	f.After, f.Shrunk, f.Error = len(short.Story.Steps), short.Schedule(), short.Err.Error()
	f.Shrinking = time.Since(began)
}

// promise names what an error of a run breaks.
func promise(err error) string {
	var b *sim.Broken
	if errors.As(err, &b) {
		return string(b.Promise)
	}
	return "the story can be played"
}
