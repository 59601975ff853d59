package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
)

func (a *app) benchCommand() *cobra.Command {
	b := &bench{}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure throughput and latency",
		Long: `Measure throughput and latency: a number of callers, each with one operation
under way at a time. (A closed loop: when the cluster is slow, callers ask less,
so that latencies under an open load would be worse.)

Keys are bench:0, bench:1, ... and are written once before a run that reads.
Latencies are those of operations that were done. It writes to the cluster, and
leaves the keys there.`,
		Example: `  kith bench --duration 10s
  kith bench --reads 0.9 --keys 100000 --dist zipfian --concurrency 100
  kith bench --count 50000 --size 1024 --connections own --format json`,
		Args: a.want(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("duration") && b.count > 0 {
				b.duration = 0
			}
			if err := b.check(); err != nil {
				return err
			}
			return a.bench(cmd.Context(), b)
		},
	}
	f := cmd.Flags()
	f.IntVar(&b.concurrency, "concurrency", 50, "callers, each with one operation under way")
	f.DurationVar(&b.duration, "duration", 10*time.Second, "how long to measure")
	f.Int64Var(&b.count, "count", 0, "how many operations to measure, instead of --duration")
	f.DurationVar(&b.warmup, "warmup", time.Second, "how long to run before measuring")
	f.IntVar(&b.size, "size", 128, "bytes of a value")
	f.Float64Var(&b.reads, "reads", 0, "share of reads, 0 to 1")
	f.IntVar(&b.keys, "keys", 50_000, "number of keys")
	f.StringVar(&b.dist, "dist", "uniform", "which keys are used: uniform or zipfian (few of them most of the time)")
	f.StringVar(&b.connections, "connections", "shared", "shared by all callers, or own for each")
	f.BoolVar(&b.noLoad, "no-load", false, "do not write the keys before a run that reads")
	addLevel(cmd, &b.r, "r", "homes that must answer a read")
	addLevel(cmd, &b.w, "w", "homes that must have a write on disk")
	check(cmd.RegisterFlagCompletionFunc("dist", cobra.FixedCompletions([]string{"uniform", "zipfian"}, cobra.ShellCompDirectiveNoFileComp)))
	check(cmd.RegisterFlagCompletionFunc("connections", cobra.FixedCompletions([]string{"shared", "own"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func (b *bench) check() error {
	switch {
	case b.concurrency < 1 || b.concurrency > 10_000:
		return usagef("--concurrency %d: want 1 to 10000", b.concurrency)
	case b.duration < 0 || b.warmup < 0 || b.count < 0:
		return usagef("--duration, --warmup and --count must not be negative")
	case b.duration == 0 && b.count == 0:
		return usagef("neither --duration nor --count")
	case b.duration > 0 && b.count > 0:
		return usagef("--duration and --count: want one of them")
	case b.size < 0 || b.size > client.ValueMax:
		return usagef("--size %d: want 0 to %d", b.size, client.ValueMax)
	case !(b.reads >= 0 && b.reads <= 1):
		return usagef("--reads %v: want 0 to 1", b.reads)
	case b.keys < 1:
		return usagef("--keys %d: want at least 1", b.keys)
	case b.dist != "uniform" && b.dist != "zipfian":
		return usagef("--dist %q: want uniform or zipfian", b.dist)
	case b.connections != "shared" && b.connections != "own":
		return usagef("--connections %q: want shared or own", b.connections)
	}
	return nil
}

func (a *app) bench(ctx context.Context, b *bench) error {
	clients, err := a.benchClients(ctx, b)
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	if err != nil {
		return err
	}
	if b.reads > 0 && !b.noLoad {
		if err := a.benchLoad(ctx, b, clients[0]); err != nil {
			return err
		}
	}
	bar := a.watch(func() (string, float64) { return b.progress() })
	report := b.run(ctx, clients)
	bar.close()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := a.printBench(report); err != nil {
		return err
	}
	if report.Reads.Count+report.Writes.Count > 0 {
		return nil
	}
	if err := b.firstError(); err != nil {
		return fmt.Errorf("no operation was done; the first failed with: %w", err)
	}
	return errors.New("no operation was done in time: measure for longer")
}

// benchClients makes one client, or one for each caller.
func (a *app) benchClients(ctx context.Context, b *bench) ([]*client.Client, error) {
	n := 1
	if b.connections == "own" {
		n = b.concurrency
	}
	var clients []*client.Client
	for range n {
		c, err := a.dial(ctx)
		if err != nil {
			return clients, err
		}
		clients = append(clients, c)
	}
	return clients, nil
}

// benchLoad writes every key once.
func (a *app) benchLoad(ctx context.Context, b *bench, c *client.Client) error {
	const batch = 512
	a.hint("writing %d keys first", b.keys)
	value := b.value(0)
	puts := make([]client.Put, 0, batch)
	for i := range b.keys {
		puts = append(puts, client.Put{Key: b.key(i), Value: value})
		if len(puts) < batch && i < b.keys-1 {
			continue
		}
		var errs []error
		for _, r := range c.PutAll(ctx, puts, b.w.level) {
			errs = append(errs, r.Err)
		}
		if err := firstOf(errs); err != nil {
			return fmt.Errorf("writing the keys: %w", err)
		}
		puts = puts[:0]
	}
	return nil
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printBench(r *benchReport) error {
	if a.format == formatJSON {
		return a.writeJSON(r)
	}
	fmt.Fprintf(a.out, "%d operations in %.2f s by %d callers: %.0f/s, %.1f us of the client's CPU each\n",
		r.Operations, r.Seconds, r.Concurrency, r.Throughput, 1e6*r.ClientCPUSeconds/max(float64(r.Operations), 1))
	rows := [][]string{{"OPERATION", "COUNT", "PER SECOND", "P50", "P95", "P99", "P99.9", "MAX"}}
	for _, op := range []struct {
		name string
		s    benchLatency
	}{{"read", r.Reads}, {"write", r.Writes}} {
		if op.s.Count == 0 {
			continue
		}
		row := []string{op.name, fmt.Sprint(op.s.Count), fmt.Sprintf("%.0f", float64(op.s.Count)/r.Seconds)}
		for _, s := range []float64{op.s.P50, op.s.P95, op.s.P99, op.s.P999, op.s.Max} {
			row = append(row, duration(time.Duration(s*float64(time.Second))))
		}
		rows = append(rows, row)
	}
	if err := a.table(rows); err != nil {
		return err
	}
	for _, kind := range sortedKeys(r.Errors) {
		fmt.Fprintf(a.out, "%s: %d\n", kind, r.Errors[kind])
	}
	return nil
}

// errorKind is the word under which an error is counted.
func errorKind(err error) string {
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.code
		}
	}
	return "UNEXPECTED"
}
