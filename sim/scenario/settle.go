package scenario

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim/trace"
)

// equal waits for equal copies, if that is expected. Nothing happens meanwhile:
// the script is over and so are the loads.
func (r *runner) equal() {
	for _, e := range r.Expects {
		want, ok := e.What.(Equal)
		if !ok {
			continue
		}
		began := r.now()
		for deadline := began + want.Within; ; {
			s := r.newest()
			if s.At > began && s.Differ == 0 {
				r.check(want.words(), e.Line, true, "after %v", s.At-began)
				break
			}
			if s.At > deadline {
				r.check(want.words(), e.Line, false, "%d of %d keys differ", s.Differ, s.Keys)
				break
			}
			time.Sleep(sampleEvery)
		}
	}
}

// sampled waits for a sample of what the script has left.
func (r *runner) sampled() {
	for began := r.now(); r.newest().At <= began; {
		time.Sleep(sampleEvery / 10)
	}
}

// newest is the last sample that was taken.
func (r *runner) newest() trace.Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.run.Samples); n > 0 {
		return r.run.Samples[n-1]
	}
	return trace.Sample{}
}

// settle mends everything, and gives what every key shows then at all homes.
func (r *runner) settle() map[string][]string {
	r.event("heal", nil, "the script is over: cuts, links, disks and clocks are mended, all nodes run")
	r.ways.heal()
	r.ways.shapeAll(r.ways.base)
	r.cluster.Network.Heal()
	r.cluster.World.Follow()
	for i, m := range r.cluster.Machines {
		if m.Retired() {
			continue
		}
		r.mendDisk(i)
		m.Clock.Set(0)
		r.resume(i)
		r.start(i)
		if !m.Running() && !r.damaged[i] {
			r.check("all nodes come back", 0, false, "%s does not start", r.Nodes[i])
		}
	}
	err := r.cluster.WaitReady(readyLimit)
	if err != nil {
		r.check("the cluster serves again", 0, false, "%v", err)
	} else {
		r.event("ready", nil, "mended")
		r.check("the cluster serves again", 0, true, "")
	}
	r.ends()
	final := map[string][]string{}
	for _, key := range r.history.Keys() {
		values, err := r.agreed(key)
		if err != nil {
			r.check("all homes agree in the end", 0, false, "key %s: %v", key, err)
			continue
		}
		final[key] = values
	}
	return final
}

// agreed gives what all running nodes show of a key, and what each home has, once
// they agree.
func (r *runner) agreed(key string) (values []string, err error) {
	for deadline := time.Now().Add(finalLimit); ; {
		if values, err = r.finally(key); err == nil || !time.Now().Before(deadline) {
			return values, err
		}
		time.Sleep(time.Second)
	}
}

func (r *runner) finally(key string) ([]string, error) {
	var first []string
	asked := -1
	ask := func(i int, level client.Level) error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		result, err := r.through[i].read(ctx, key, level)
		if err != nil && result.Context == nil {
			return fmt.Errorf("read through %s: %s", r.Nodes[i], r.names.in(err.Error()))
		}
		got := shown(result)
		if asked >= 0 && !slices.Equal(got, first) {
			return fmt.Errorf("%s shows %s, %s shows %s", r.Nodes[asked], values(first), r.Nodes[i], values(got))
		}
		first, asked = got, i
		return nil
	}
	for i, m := range r.cluster.Machines {
		if m.Running() {
			if err := ask(i, client.All); err != nil {
				return nil, err
			}
		}
	}
	for _, i := range r.homesOf(key) {
		if m := r.cluster.Machines[i]; m.Running() {
			if err := ask(i, client.One); err != nil {
				return nil, fmt.Errorf("as a home alone: %w", err)
			}
		}
	}
	return first, nil
}
