package sim_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

// A seed that has found a bug of an application finds it again, word for word.
func TestTryFindsTheSameBugAgain(t *testing.T) {
	process := func(int) counter { return naive{} }
	for seed := uint64(1); ; seed++ {
		err := tryCounter(seed, process)
		if err == nil && seed < 20 {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("seed %d: in the end: the counter says", seed)) ||
			!strings.Contains(err.Error(), "\nfaults:\n") {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if again := tryCounter(seed, process); again == nil || sim.Replays && again.Error() != err.Error() {
			t.Fatalf("first\n%v\nthen\n%v", err, again)
		}
		t.Logf("%v", err)
		return
	}
}

func TestCarefulCounterSurvives(t *testing.T) {
	for _, seed := range seeds(5) {
		if err := tryCounter(seed, func(n int) counter { return &careful{me: fmt.Sprint(n)} }); err != nil {
			t.Error(err)
		}
	}
}

// What goes wrong at work ends the run at once, and is told with the seed.
func TestTryTellsWhatWentWrongAtWork(t *testing.T) {
	bad := errors.New("this must not happen")
	others, checked := 0, false
	err := sim.Try(sim.Options{Seed: 5, Nodes: 3}, sim.Story{Steps: []sim.Step{}, Length: time.Hour}, sim.App{
		Clients: 2,
		Work: func(ctx context.Context, n int, c *client.Client) error {
			if n == 1 {
				time.Sleep(time.Second) // virtual
				return bad
			}
			for ctx.Err() == nil {
				if _, err := c.Put(ctx, []byte("k"), []byte("v")); err == nil {
					others++
				}
				time.Sleep(time.Second) // virtual
			}
			return nil
		},
		Check: func(context.Context, *client.Client) error { checked = true; return nil },
	})
	if !errors.Is(err, bad) || !strings.HasPrefix(err.Error(), "seed 5: client 1: ") {
		t.Errorf("got %v", err)
	}
	if others == 0 || others > 5 || checked {
		t.Errorf("the other client did %d puts in an hour that was cut short; checked: %v", others, checked)
	}
}
