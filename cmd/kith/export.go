package main

import (
	"bufio"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
)

func (a *app) exportCommand() *cobra.Command {
	var r levelFlag
	var prefix string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print all records as JSON lines",
		Long: `Print every key with its value in the format of import, partition after
partition and sorted by key within each. Every partition is read from as many
homes as --r asks for; if one cannot be read the export ends at once with an
error: what was printed until then is incomplete, and nothing is ever left out
silently. Of siblings, the winner is printed, and their number is told. A value
with an expiry has it in "expires", which import takes; what has expired is not
printed.`,
		Example: `  kith export > backup.jsonl
  kith export --prefix user: > users.jsonl`,
		Args: a.want(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.export(cmd.Context(), []byte(prefix), r.level)
		},
	}
	addLevel(cmd, &r, "r", "homes that must answer for each partition")
	cmd.Flags().StringVar(&prefix, "prefix", "", "only keys that begin with this")
	return cmd
}

func (a *app) export(ctx context.Context, prefix []byte, r client.Level) error {
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	var records, conflicts, partition atomic.Int64
	partitions := max(c.Partitions(), 1)
	begun := time.Now()
	if !isTerminal(a.out) {
		bar := a.watch(func() (string, float64) {
			return fmt.Sprintf("%d records, %.0f/s", records.Load(), float64(records.Load())/time.Since(begun).Seconds()),
				float64(partition.Load()) / float64(partitions)
		})
		defer bar.close()
	}
	out := bufio.NewWriterSize(a.out, 256<<10)
	var line []byte
	for it, err := range c.Scan(ctx, prefix, r) {
		if err == nil {
			if line, err = encodeRecord(line[:0], it.Key, it.Value, it.Expires); err == nil {
				_, err = out.Write(line)
			}
		}
		if err != nil {
			out.Flush()
			return fmt.Errorf("export is incomplete, %d records were printed: %w", records.Load(), err)
		}
		records.Add(1)
		partition.Store(int64(it.Partition))
		if it.Siblings > 1 {
			conflicts.Add(1)
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if n := conflicts.Load(); n > 0 {
		a.hint("%d of %d keys have siblings; the winner of each was printed", n, records.Load())
	}
	return nil
}
