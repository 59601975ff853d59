package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) importCommand() *cobra.Command {
	var im importer
	var logFile string
	var ttl ttlFlag
	var sloppy bool
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Write the records of a JSON lines file",
		Long: `Write the records of a file, one JSON object a line:

  {"key":"...","value":"..."}

with key_base64 and value_base64 instead where bytes are not UTF-8. A record may
have "expires", in milliseconds since 1970, or "ttl", a duration; others live as
long as --ttl says, or for ever. Records of one key are written in the order of
the file; others in any order.

At the end it counts what was done, what was refused (nothing was written) and
what is unknown (it may have been written). The exit status is 5 if anything is
unknown, else 6 if anything was refused. It is safe to run again. --log keeps
the outcome of every record. A line that cannot be read ends the import.`,
		Example: `  kith import packages.jsonl --log outcomes.jsonl
  zcat backup.jsonl.gz | kith import -`,
		Args: a.want(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if im.workers < 1 || im.workers > importWorkersMax {
				return usagef("--concurrency %d: want 1 to %d", im.workers, importWorkersMax)
			}
			if im.batch < 1 || im.batch > importBatchMax {
				return usagef("--batch %d: want 1 to %d", im.batch, importBatchMax)
			}
			im.options = writeOptions(&ttl, sloppy)
			in, size, err := a.open(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			if logFile != "" {
				if sameFile(in, logFile) {
					return usagef("--log: %s is the file to import", logFile)
				}
				f, err := os.Create(logFile)
				if err != nil {
					return usagef("--log: %w", err)
				}
				im.log = newOutcomeLog(f)
			}
			err = a.runImport(cmd.Context(), &im, in, size)
			if im.log != nil {
				err = errors.Join(err, im.log.close())
			}
			return err
		},
	}
	addLevel(cmd, &im.w, "w", "homes that must have each record on disk")
	addSloppy(cmd, &sloppy)
	cmd.Flags().Var(&ttl, "ttl", "how long the values can be read, of records that do not say it")
	cmd.Flags().IntVar(&im.workers, "concurrency", 8, "batches under way at once")
	cmd.Flags().IntVar(&im.batch, "batch", 128, "records in a batch")
	cmd.Flags().StringVar(&logFile, "log", "", "write each record's outcome to this file, as JSON lines")
	return cmd
}

// open gives a file's content and size; the size is -1 if it is not known.
func (a *app) open(name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(a.in), -1, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, &usageError{err}
	}
	st, err := f.Stat()
	if err == nil && st.IsDir() {
		err = fmt.Errorf("%s is a directory", name)
	}
	if err != nil {
		f.Close()
		return nil, 0, &usageError{err}
	}
	if !st.Mode().IsRegular() {
		return f, -1, nil
	}
	return f, st.Size(), nil
}

// sameFile says that path leads to the file that in reads.
func sameFile(in io.Reader, path string) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	reads, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && reads.Mode().IsRegular() && os.SameFile(reads, there)
}

// importSummary is the document of import.
type importSummary struct {
	Schema  string  `json:"schema"`
	Records int64   `json:"records"`
	Done    int64   `json:"done"`
	Refused int64   `json:"refused"`
	Unknown int64   `json:"unknown"`
	Seconds float64 `json:"seconds"`
}

func (a *app) runImport(ctx context.Context, im *importer, in io.Reader, size int64) error {
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	im.client, im.timeout = c, a.timeout
	begun := time.Now()
	bar := a.watch(func() (string, float64) {
		n, done := im.counts(), -1.0
		if size > 0 {
			done = float64(im.read.Load()) / float64(size)
		}
		return fmt.Sprintf("%d done, %d refused, %d unknown, %.0f/s", n.Done, n.Refused, n.Unknown,
			float64(n.Records)/time.Since(begun).Seconds()), done
	})
	failed := im.run(ctx, newInput(ctx, in))
	bar.close()
	sum := im.counts()
	sum.Seconds = time.Since(begun).Seconds()
	if err := a.printImport(sum); err != nil {
		return err
	}
	return importStatus(ctx, sum, failed, im.firstError())
}

func (a *app) printImport(sum importSummary) error {
	if a.format == formatJSON {
		return a.writeJSON(sum)
	}
	_, err := fmt.Fprintf(a.out, "%d records in %.1f s: %d done, %d refused, %d unknown\n",
		sum.Records, sum.Seconds, sum.Done, sum.Refused, sum.Unknown)
	return err
}

// importStatus says how the import ends. An input that cannot be read comes
// first, since running again does not help.
func importStatus(ctx context.Context, sum importSummary, failed, first error) error {
	switch {
	case failed != nil && ctx.Err() == nil:
		return &exitError{exitUsage, failed, "what was read before is imported as counted; mend the input and run it again"}
	case ctx.Err() != nil:
		return &exitError{exitInterrupted, errors.New("interrupted"), "not all records were read: run it again"}
	case sum.Unknown > 0:
		return &exitError{exitUnknown, fmt.Errorf("%d records unknown, %d refused; first: %w (UNKNOWN)", sum.Unknown, sum.Refused, first), "it is safe to run it again"}
	case sum.Refused > 0:
		return &exitError{exitRefused, fmt.Errorf("%d records refused; first: %w", sum.Refused, first), "see kith status; it is safe to run it again"}
	}
	return nil
}
