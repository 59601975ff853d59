package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
)

// App is a program of one's own that uses a cluster by the real client: what Try
// runs against a simulated one.
type App struct {
	// Clients work side by side; 0 is 2.
	Clients int
	// Work is called once for each client, each call in a goroutine of its
	// own, while faults befall the cluster. n counts the clients from 0. It
	// returns soon after ctx ends. Calls that the faults make fail are no
	// reason for an error; what must never happen is. Work may wait by plain
	// time and channels, but not for anything outside the bubble: files are
	// fine, sockets are not.
	Work func(ctx context.Context, n int, c *client.Client) error
	// Check looks at what is left after all clients have ended and the
	// cluster is healed. nil checks nothing.
	Check func(ctx context.Context, c *client.Client) error
}

// checkLimit is how much virtual time Check has.
const checkLimit = 5 * time.Minute

// Try runs a program against a cluster in virtual time, in a bubble of its own,
// while the faults of the story befall it; the story's clients, keys and values
// are not used. The error names the seed and tells the faults: the same seed gives
// the same run again. It must not be called inside a bubble, and not twice at the
// same time.
func Try(o Options, s Story, a App) error {
	var err error
	Bubble(&testing.T{}, func(*testing.T) { err = a.try(o, s) })
	return err
}

func (a *App) try(o Options, s Story) error {
	c, err := NewCluster(o)
	if err != nil {
		return fmt.Errorf("seed %d: %w", o.Seed, err)
	}
	defer c.Close()
	if err := c.WaitReady(time.Minute); err != nil {
		return fmt.Errorf("seed %d: %w", o.Seed, err)
	}
	s.setDefaults(c)
	told, err := a.work(c, s)
	if err == nil {
		err = a.check(c)
	}
	if err != nil {
		return fmt.Errorf("seed %d: %w\nfaults:\n%s", o.Seed, err, strings.Join(told, "\n"))
	}
	return nil
}

// work runs all clients beside the faults and waits for them.
func (a *App) work(c *Cluster, s Story) ([]string, error) {
	clients := a.Clients
	if clients == 0 {
		clients = 2
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.Length)
	defer cancel()
	errs := make([]error, clients)
	var working sync.WaitGroup
	for n := range clients {
		cl, err := c.Client(nil, nil)
		if err != nil {
			cancel()
			working.Wait()
			return nil, err
		}
		working.Go(func() {
			defer cl.Close()
			if errs[n] = a.Work(ctx, n, cl.Client); errs[n] != nil {
				errs[n] = fmt.Errorf("client %d: %w", n, errs[n])
				cancel() // what follows tells nothing more
			}
		})
	}
	told, err := c.befall(ctx, s.Steps)
	working.Wait()
	return told, errors.Join(append(errs, err)...)
}

// check heals the cluster and has the program look at it.
func (a *App) check(c *Cluster) error {
	if a.Check == nil {
		return nil
	}
	if err := c.Heal(); err != nil {
		return err
	}
	if err := c.WaitReady(2 * time.Minute); err != nil {
		return err
	}
	cl, err := c.Client(nil, nil)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), checkLimit)
	defer cancel()
	if err := a.Check(ctx, cl.Client); err != nil {
		return fmt.Errorf("in the end: %w", err)
	}
	return nil
}
