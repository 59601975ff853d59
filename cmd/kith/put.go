package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
)

func (a *app) putCommand() *cobra.Command {
	var w levelFlag
	var token string
	var ttl ttlFlag
	var sloppy bool
	cmd := &cobra.Command{
		Use:   "put KEY VALUE|-",
		Short: "Write a key",
		Long: `Write a key. It is done when the homes that --w asks for have it on disk.

With - the value is read from standard input, as it is. With --context, the
write replaces exactly what was read together with that context: values that
were written meanwhile by others stay beside it as siblings.

With --ttl the value can be read for that long; then the key reads as if it had
been deleted. With --sloppy the write is done also where too few homes can be
reached, as long as one can: other members keep it for the homes and are counted
for --w. Until the homes have it, reads may miss it.`,
		Example: `  kith put greeting hello
  kith put photo - < photo.jpg
  kith put cart apples --w all --format json
  kith put session:7 open --ttl 30m`,
		Args: a.want(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			value := []byte(args[1])
			if args[1] == "-" {
				var err error
				if value, err = readValue(cmd.Context(), a.in); err != nil {
					return err
				}
			}
			return a.write(cmd.Context(), token, func(ctx context.Context, c *client.Client, opts ...client.CallOption) (client.Written, error) {
				return c.Put(ctx, []byte(args[0]), value, opts...)
			}, "put", args[0], w, writeOptions(&ttl, sloppy))
		},
	}
	addWriteFlags(cmd, &w, &token, &sloppy)
	cmd.Flags().Var(&ttl, "ttl", "how long the value can be read, such as 90s, 10m or 24h")
	return cmd
}

func addWriteFlags(cmd *cobra.Command, w *levelFlag, token *string, sloppy *bool) {
	addLevel(cmd, w, "w", "homes that must have the write on disk")
	cmd.Flags().StringVar(token, "context", "", "replace exactly what was read with this context")
	addSloppy(cmd, sloppy)
}

func addSloppy(cmd *cobra.Command, sloppy *bool) {
	cmd.Flags().BoolVar(sloppy, "sloppy", false, "let other members stand in for homes that cannot be reached")
}

// ttlFlag is the value of --ttl.
type ttlFlag struct{ d time.Duration }

// String is what was given, empty for nothing.
func (f *ttlFlag) String() string {
	if f.d == 0 {
		return ""
	}
	return f.d.String()
}

// Type is how help calls the value.
func (f *ttlFlag) Type() string { return "DURATION" }

// Set reads a duration.
func (f *ttlFlag) Set(s string) (err error) {
	f.d, err = parseTTL(s)
	return err
}

// writeOptions are those of the flags --ttl and --sloppy.
func writeOptions(ttl *ttlFlag, sloppy bool) (opts []client.CallOption) {
	if ttl.d != 0 {
		opts = append(opts, client.WithTTL(ttl.d))
	}
	if sloppy {
		opts = append(opts, client.Sloppy())
	}
	return opts
}

type writer func(context.Context, *client.Client, ...client.CallOption) (client.Written, error)

// write does a put or a delete and prints its receipt if asked for JSON.
func (a *app) write(ctx context.Context, token string, do writer, verb, key string, w levelFlag, opts []client.CallOption) error {
	opts = append(opts, w.level)
	if token != "" {
		t, err := client.ParseContext(token)
		if err != nil {
			return usagef("--context: %w", err)
		}
		opts = append(opts, client.WithContext(t))
	}
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	done, err := do(ctx, c, opts...)
	if err != nil {
		return err
	}
	if a.format != formatJSON {
		if done.Receipt.Sloppy {
			a.hint("a stand-in was counted: until the homes have the write, reads may miss it")
		}
		return nil
	}
	return a.writeJSON(struct {
		Schema string `json:"schema"`
		keyText
		Outcome string      `json:"outcome"`
		Context string      `json:"context"`
		Receipt receiptJSON `json:"receipt"`
	}{verb + "/v1", keyOf([]byte(key)), "done", done.Context.String(), receiptOf(done.Receipt)})
}

// readValue reads a value that is no larger than any cluster takes.
func readValue(ctx context.Context, in io.Reader) ([]byte, error) {
	value, err := io.ReadAll(io.LimitReader(newInput(ctx, in), client.ValueMax+1))
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	if len(value) > client.ValueMax {
		return nil, fmt.Errorf("value on standard input is over %d bytes: %w", client.ValueMax, client.ErrTooLarge)
	}
	return value, nil
}
