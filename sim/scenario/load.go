package scenario

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/kithdb/kith/client"
)

// startLoads starts the clients of all loads; those that have no end of their own
// end with the context.
func (r *runner) startLoads(ctx context.Context) error {
	for _, load := range r.Loads {
		var opts []client.Option
		if load.Direct {
			opts = append(opts, client.Direct())
		}
		for n := range load.Clients {
			cl, err := r.cluster.Client(nil, opts, r.indexes(load.At)...)
			if err != nil {
				return err
			}
			a := &actor{Client: cl.Client, name: fmt.Sprintf("%s%d", load.Name, n+1), load: load.Name, place: -1}
			if len(load.At) > 0 {
				a.place = r.indexes(load.At)[0]
			}
			r.ways.stand(cl.Name, a.place)
			rng := r.cluster.Chance("load " + a.name)
			r.loads.Go(func() {
				defer cl.Close()
				r.work(ctx, a, load, rng)
			})
		}
	}
	return nil
}

// work does one operation after the other. A pause is drawn before each, so that
// clients don't march in step; an operation that lasts longer is not made up for.
func (r *runner) work(ctx context.Context, a *actor, load Load, rng *rand.Rand) {
	if load.To > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(context.Background(), r.began.Add(load.To))
		defer cancel()
	}
	rest(ctx, time.Until(r.began.Add(load.From)))
	pause := time.Duration(float64(load.Clients) / load.Rate * float64(time.Second))
	seen := map[string]*read{}
	put := func(key string, n int, after *read) {
		r.write(a, write{key: key, value: fmt.Sprintf("%s.%d", a.name, n), size: load.Size, after: after,
			level: load.W, limit: load.Timeout, ttl: load.TTL, sloppy: load.Sloppy})
	}
	for n := 1; ; n++ {
		due := time.Now().Add(pause/2 + time.Duration(rng.Int64N(int64(pause))))
		key := fmt.Sprintf("%s%d", load.Prefix, rng.IntN(load.Keys)+1)
		reads := rng.IntN(100) < load.Reads
		rest(ctx, time.Until(due))
		if ctx.Err() != nil {
			return
		}
		switch {
		case reads:
			if got := r.get(a, key, load.R, load.Timeout); got.context != nil {
				seen[key] = got
			}
		case load.Blind:
			put(key, n, nil)
		default:
			if got := r.get(a, key, load.R, load.Timeout); got.context != nil {
				seen[key] = got
			}
			if seen[key] != nil {
				put(key, n, seen[key])
			}
		}
	}
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
