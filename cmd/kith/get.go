package main

import (
	"errors"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
)

func (a *app) getCommand() *cobra.Command {
	var r levelFlag
	var siblings bool
	cmd := &cobra.Command{
		Use:   "get KEY",
		Short: "Read a key",
		Long: `Read a key from as many homes as --r asks for, and print its value as it is
(on a terminal with a newline behind it). The exit status is 3 if the key has
no value, or had one that has expired.

Writers that did not know of each other leave siblings; the value printed is
that of the latest. --siblings shows all of them. --format json has the value,
the siblings, the context for a later put, and the receipt.`,
		Example: `  kith get greeting
  kith get photo > photo.jpg
  kith get cart --siblings
  kith get cart --format json`,
		Args: a.want(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			key := []byte(args[0])
			res, err := c.Get(cmd.Context(), key, r.level)
			if err != nil && !errors.Is(err, client.ErrNotFound) {
				return err
			}
			found := err == nil
			var failed error
			switch {
			case a.format == formatJSON:
				failed = a.writeJSON(gotOf(key, found, res))
			case siblings:
				failed = a.table(siblingRows(res.Siblings))
			case found:
				failed = copyRaw(a.out, res.Value)
			}
			if failed != nil {
				return failed
			}
			return err
		},
	}
	addLevel(cmd, &r, "r", "homes that must answer")
	cmd.Flags().BoolVar(&siblings, "siblings", false, "show all siblings instead of the value")
	return cmd
}

// gotJSON is the document of get.
type gotJSON struct {
	Schema string `json:"schema"`
	keyText
	Found bool `json:"found"`
	valueText
	Expires  *time.Time    `json:"expires,omitempty"`
	Siblings []siblingJSON `json:"siblings"`
	Context  string        `json:"context"`
	Receipt  receiptJSON   `json:"receipt"`
}

type siblingJSON struct {
	valueText
	Deleted bool       `json:"deleted"`
	Winner  bool       `json:"winner"`
	Time    time.Time  `json:"time"`
	Expires *time.Time `json:"expires,omitempty"`
}

func gotOf(key []byte, found bool, res client.Result) gotJSON {
	out := gotJSON{
		Schema:   "get/v1",
		keyText:  keyOf(key),
		Found:    found,
		Siblings: make([]siblingJSON, len(res.Siblings)),
		Context:  res.Context.String(),
		Receipt:  receiptOf(res.Receipt),
	}
	if found {
		out.valueText = valueOf(res.Value)
		out.Expires = timeOrNil(res.Expires)
	}
	for i, s := range res.Siblings {
		j := siblingJSON{Deleted: s.Deleted, Winner: s.Winner, Time: s.Time().UTC()}
		if !s.Deleted {
			j.valueText = valueOf(s.Value)
		}
		j.Expires = timeOrNil(s.Expires)
		out.Siblings[i] = j
	}
	return out
}

// timeOrNil is a time for JSON, nil for the zero time.
func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func siblingRows(siblings []client.Sibling) [][]string {
	rows := [][]string{{"WINNER", "TIME", "EXPIRES", "SIZE", "VALUE"}}
	for _, s := range siblings {
		winner := ""
		if s.Winner {
			winner = "*"
		}
		value, size, expires := "(deleted)", "", ""
		if !s.Expires.IsZero() {
			value, expires = "(expired)", instant(s.Expires)
		}
		if !s.Deleted {
			value, size = preview(s.Value), byteSize(int64(len(s.Value)))
		}
		rows = append(rows, []string{winner, instant(s.Time()), expires, size, value})
	}
	return rows
}

// instant shows a time to the millisecond.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// preview is the beginning of a value, on one line.
func preview(value []byte) string {
	const most = 60
	if len(value) <= most {
		return strconv.Quote(string(value))
	}
	return strconv.Quote(string(value[:most])) + "..."
}
