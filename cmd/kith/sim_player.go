package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
	"github.com/kithdb/kith/sim/trace"
)

// Random schedules are played by child processes as scenarios are, each on one
// processor, which is what a seed needs to give the same run again.

// playRequest is what such a child is asked for.
type playRequest struct {
	// Saved is a run as sim.ParseSaved reads it. Empty plays seeds.
	Saved string
	// First, First+Every, and so on, Seeds of them; 0 goes on for ever.
	First, Every, Seeds uint64
	Length              time.Duration
	Shrink              int  // runs to shrink a failure with, at most
	LyingDisks, Changes bool // for seeds
	Record              bool // give the trace and its hash
}

// playLine is one line of the child's output. One without anything says that
// virtual time goes on.
type playLine struct {
	Seed   *uint64  `json:",omitempty"` // begins
	Played *played  `json:",omitempty"`
	Shrunk *failure `json:",omitempty"`
}

// played is what became of one seed.
type played struct {
	Seed                   uint64
	Virtual, Wall          time.Duration
	Done, Refused, Unknown int
	Injected               map[string]int // faults that began, by kind
	Bites                  map[string]int // operations that did not succeed meanwhile
	Failure                *failure       `json:",omitempty"`
	Trace                  *trace.Run     `json:",omitempty"`
	Hash                   string         `json:",omitempty"`
	Messages               int            `json:",omitempty"`
}

// failure is a run that broke a promise.
type failure struct {
	Seed    uint64        `json:"seed"`
	Promise string        `json:"promise"`
	Error   string        `json:"error"`
	Key     string        `json:"key,omitempty"`
	Faults  int           `json:"faults"` // in the schedule
	Length  time.Duration `json:"-"`
	Saved   string        `json:"saved"` // as kith sim replay reads it
	Log     string        `json:"-"`     // the nodes' words
}

func failureOf(r *sim.Result) *failure {
	if r.Err == nil {
		return nil
	}
	return &failure{
		Seed: r.Options.Seed, Promise: string(r.Promise()), Error: r.Err.Error(), Key: r.Key(),
		Faults: len(r.Story.Steps), Length: r.Story.Length, Saved: r.Save(), Log: r.Log,
	}
}

func (a *app) simPlayerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "player",
		Hidden: true,
		Short:  "Play random schedules for a parent that watches",
		Args:   a.want(0, 0),
		RunE: func(*cobra.Command, []string) error {
			var ask playRequest
			if err := json.NewDecoder(a.in).Decode(&ask); err != nil {
				return usagef("request: %w", err)
			}
			debug.SetGCPercent(400)
			p := player{ask: ask, out: json.NewEncoder(a.out)}
			return p.play()
		},
	}
}

// player plays in the child.
type player struct {
	ask  playRequest
	out  *json.Encoder
	err  error // of the output
	tick time.Time
}

// say writes a line. It is called from one goroutine at a time: the bubble's
// network while a run lasts, the player between runs.
func (p *player) say(l playLine) {
	if err := p.out.Encode(l); err != nil && p.err == nil {
		p.err = err
	}
}

func (p *player) play() error {
	if p.ask.Saved != "" {
		o, s, err := sim.ParseSaved(p.ask.Saved)
		if err != nil {
			return &usageError{err}
		}
		p.one(o, s)
		return p.err
	}
	for n, seed := uint64(0), p.ask.First; p.err == nil && (p.ask.Seeds == 0 || n < p.ask.Seeds); n, seed = n+1, seed+p.ask.Every {
		o, s := sim.Swarm(seed, p.ask.Length)
		o.LyingDisks, s.Changes = p.ask.LyingDisks, s.Changes || p.ask.Changes
		p.one(o, s)
	}
	return p.err
}

func (p *player) one(o sim.Options, s sim.Story) {
	p.say(playLine{Seed: &o.Seed})
	// The network's own loop tells that time goes on, so that listening
	// changes nothing of the run.
	o.Network.Trace = func(e network.Event) {
		if e.At.Sub(p.tick).Abs() >= time.Second {
			p.tick = e.At
			p.say(playLine{})
		}
	}
	injected := map[string]int{}
	o.Tell = func(t sim.Told) {
		if !t.End {
			injected[t.Fault]++
		}
	}
	var r *sim.Result
	out := &played{Seed: o.Seed, Injected: injected}
	if p.ask.Record {
		rec := sim.RunRecorded(o, s)
		r, out.Trace, out.Hash, out.Messages = rec.Result, rec.Trace, rec.Hash, rec.Messages
	} else {
		r = sim.Run(o, s)
	}
	out.Virtual, out.Wall, out.Failure = r.Virtual, r.Wall, failureOf(r)
	out.Done, out.Refused, out.Unknown = r.History.Count(sim.Done), r.History.Count(sim.Refused), r.History.Count(sim.Unknown)
	if len(r.History.Ops()) > 0 {
		out.Bites = r.Bites()
	}
	p.say(playLine{Played: out})
	if r.Err != nil && p.ask.Shrink > 0 {
		p.say(playLine{Shrunk: failureOf(sim.Shrink(r, p.ask.Shrink))})
	}
}

// playing has a child play and hands over what it says. seed is the one that was
// being played at an error.
func playing(ctx context.Context, ask playRequest, patience time.Duration, take func(playLine)) (seed uint64, err error) {
	program, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find this program: %w", err)
	}
	input, err := json.Marshal(ask)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, program, "sim", "player")
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stdin = strings.NewReader(string(input))
	err = supervise(cmd, patience, func(line []byte) error {
		var l playLine
		if err := json.Unmarshal(line, &l); err != nil {
			return fmt.Errorf("the simulation says %.80q: %w", line, err)
		}
		if l.Seed != nil {
			seed = *l.Seed
		}
		take(l)
		return nil
	})
	if ctx.Err() != nil {
		return seed, ctx.Err()
	}
	return seed, err
}

// play is what the verbs share that play random schedules.
type play struct {
	length, watchdog time.Duration
	lyingDisks       bool
	changes          bool
}

// lengthDefault is the virtual time of a random run.
const lengthDefault = 2 * time.Minute

func (f *play) flags(flags *pflag.FlagSet) {
	flags.DurationVar(&f.length, "length", lengthDefault, "virtual time that faults and clients have, of a seed")
	flags.BoolVar(&f.lyingDisks, "lying-disks", false, "disks that forget what they say is synced, of a seed: to see a promise broken")
	flags.BoolVar(&f.changes, "changes", false, "have operators change the ring in every run of a seed; else they do in every third")
	flags.DurationVar(&f.watchdog, "watchdog", 2*time.Minute, "give up when virtual time stands still for so long")
}

func (f *play) check() error {
	if f.length < time.Second || f.length > 24*time.Hour {
		return usagef("--length %v: want 1s to 24h", f.length)
	}
	if f.watchdog < time.Second {
		return usagef("--watchdog %v: want 1s or more", f.watchdog)
	}
	return nil
}

// request is what a child is asked for to play SEED or FILE.
func (a *app) request(name string, f play) (playRequest, error) {
	if err := f.check(); err != nil {
		return playRequest{}, err
	}
	saved, seed, err := a.savedOf(name)
	return playRequest{Saved: saved, First: seed, Every: 1, Seeds: 1, Length: f.length, LyingDisks: f.lyingDisks, Changes: f.changes}, err
}

// replay is the command that plays a seed again.
func (f *play) replay(seed uint64) string {
	line := fmt.Sprintf("kith sim replay %d --length %v", seed, f.length)
	if f.lyingDisks {
		line += " --lying-disks"
	}
	if f.changes {
		line += " --changes"
	}
	return line
}

// savedOf gives what SEED or FILE means, as a run that sim.ParseSaved reads, or
// as a seed.
func (a *app) savedOf(name string) (saved string, seed uint64, err error) {
	if seed, err := strconv.ParseUint(name, 10, 64); err == nil {
		return "", seed, nil
	}
	from := a.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", 0, usagef("%q is no seed, a number, and no file: %w", name, err)
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, sim.SavedMax+1))
	switch {
	case err != nil:
		return "", 0, fmt.Errorf("read %s: %w", name, err)
	case len(text) > sim.SavedMax:
		return "", 0, usagef("%s: over %d bytes", name, sim.SavedMax)
	}
	if _, _, err := sim.ParseSaved(string(text)); err != nil {
		return "", 0, usagef("%s: %w", name, err)
	}
	return string(text), 0, nil
}

// errNothing is a child that ended without what it was asked for.
var errNothing = errors.New("simulation: it ended without a result")
