package sim_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

// counter is what one process of an application uses to count visits, in one key
// that all processes share.
type counter interface {
	// add counts one visit. With client.Unknown(err) it may count.
	add(ctx context.Context, c *client.Client) error
	// total reads the sum of all processes.
	total(ctx context.Context, c *client.Client) (int, error)
}

var visits = []byte("visits")

// naive reads the number and writes it back plus one, with the context of the
// read. A test with one client finds nothing wrong with it.
type naive struct{}

func (naive) total(ctx context.Context, c *client.Client) (int, error) {
	n, _, err := naive{}.read(ctx, c)
	return n, err
}

func (naive) read(ctx context.Context, c *client.Client) (n int, token client.Context, err error) {
	got, err := c.Get(ctx, visits)
	if errors.Is(err, client.ErrNotFound) {
		return 0, got.Context, nil
	}
	if err == nil {
		err = json.Unmarshal(got.Value, &n) // the bug: one sibling counts, the others are gone with the next write
	}
	return n, got.Context, err
}

func (naive) add(ctx context.Context, c *client.Client) error {
	n, token, err := naive{}.read(ctx, c)
	if err != nil {
		return err
	}
	_, err = c.Put(ctx, visits, fmt.Append(nil, n+1), client.WithContext(token))
	return err
}

// careful keeps a number for every process and merges all siblings: of two
// numbers of one process the greater one is the later.
type careful struct {
	me   string
	mine int // counted here so far, also what may be written
}

func (*careful) read(ctx context.Context, c *client.Client) (map[string]int, client.Context, error) {
	all := map[string]int{}
	got, err := c.Get(ctx, visits)
	if errors.Is(err, client.ErrNotFound) {
		return all, got.Context, nil
	}
	for _, s := range got.Siblings {
		one := map[string]int{}
		if err := json.Unmarshal(s.Value, &one); err != nil {
			return nil, nil, err
		}
		for who, n := range one {
			all[who] = max(all[who], n)
		}
	}
	return all, got.Context, err
}

func (k *careful) total(ctx context.Context, c *client.Client) (int, error) {
	all, _, err := k.read(ctx, c)
	sum := 0
	for _, n := range all {
		sum += n
	}
	return sum, err
}

func (k *careful) add(ctx context.Context, c *client.Client) error {
	all, token, err := k.read(ctx, c)
	if err != nil {
		return err
	}
	all[k.me] = k.mine + 1
	value, err := json.Marshal(all)
	if err != nil {
		return err
	}
	_, err = c.Put(ctx, visits, value, client.WithContext(token))
	if !client.Refused(err) { // it is there, or may be
		k.mine++
	}
	return err
}

// tryCounter has three processes count visits while the cluster of a seed is hurt,
// and holds the total against what each was told.
func tryCounter(seed uint64, process func(n int) counter) error {
	const processes = 3
	var done, unknown [processes]int
	return sim.Try(sim.Options{Seed: seed}, sim.Story{Length: 10 * time.Second}, sim.App{
		Clients: processes,
		Work: func(ctx context.Context, n int, c *client.Client) error {
			k := process(n)
			for ctx.Err() == nil {
				call, cancel := context.WithTimeout(ctx, time.Second)
				err := k.add(call, c)
				cancel()
				switch {
				case err == nil:
					done[n]++
				case client.Unknown(err):
					unknown[n]++
				}
				time.Sleep(100 * time.Millisecond) // virtual
			}
			return nil
		},
		Check: func(ctx context.Context, c *client.Client) error {
			got, err := process(0).total(ctx, c)
			if err != nil {
				return err
			}
			least, most := 0, 0
			for n := range processes {
				least += done[n]
				most += done[n] + unknown[n]
			}
			if got < least || got > most {
				return fmt.Errorf("the counter says %d, but %d to %d visits were counted", got, least, most)
			}
			return nil
		},
	})
}

// An application's own code is held against a cluster that is hurt: seed after
// seed, until one finds its bug. The corrected version survives them all.
func Example() {
	const seeds = 10
	for _, version := range []struct {
		name    string
		process func(n int) counter
	}{
		{"naive", func(int) counter { return naive{} }},
		{"careful", func(n int) counter { return &careful{me: fmt.Sprint("process ", n)} }},
	} {
		found := error(nil)
		for seed := uint64(1); seed <= seeds && found == nil; seed++ {
			found = tryCounter(seed, version.process)
		}
		if found != nil {
			fmt.Println(version.name, "has a bug that a seed has found")
		} else {
			fmt.Println(version.name, "has survived all seeds")
		}
	}
	// Output:
	// naive has a bug that a seed has found
	// careful has survived all seeds
}
