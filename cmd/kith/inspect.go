package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
)

func (a *app) inspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect KEY",
		Short: "Show what each home holds of a key, and where they differ",
		Long: `Show what each home holds of a key: a line for each sibling of each home, and
below them what differs, why, and what will mend it. Copies that members keep
for homes which cannot be reached are shown too. Nothing is changed or repaired.

A dot names one write for ever: who minted it, and its number. The digest of a
copy covers all its siblings: homes with equal digests hold the same.`,
		Example: `  kith inspect cart
  kith inspect cart --format json`,
		Args: a.want(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			seen, err := a.inspect(cmd, args[0])
			if err != nil {
				return err
			}
			return a.printInspect([]byte(args[0]), seen)
		},
	}
}

func (a *app) printInspect(key []byte, seen *client.Inspection) error {
	if a.format == formatJSON {
		return a.writeJSON(struct {
			Schema string `json:"schema"`
			keyText
			*client.Inspection
		}{"inspect/v1", keyOf(key), seen})
	}
	fmt.Fprintf(a.out, "partition %d, slot %d, epoch %d\n", seen.Partition, seen.Slot, seen.Epoch)
	if err := a.table(inspectRows(seen)); err != nil {
		return err
	}
	return a.sentences(seen)
}

func (a *app) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "why KEY",
		Short: "Say why the homes of a key differ, and what will mend it",
		Long: `Say why the homes of a key differ, and what will mend it: the sentences of
inspect alone.`,
		Example: `  kith why cart`,
		Args:    a.want(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			seen, err := a.inspect(cmd, args[0])
			if err != nil {
				return err
			}
			return a.printWhy([]byte(args[0]), seen)
		},
	}
}

func (a *app) printWhy(key []byte, seen *client.Inspection) error {
	if a.format == formatJSON {
		return a.writeJSON(struct {
			Schema string `json:"schema"`
			keyText
			Equal bool     `json:"equal"`
			Why   []string `json:"why"`
		}{"why/v1", keyOf(key), seen.Equal, seen.Why})
	}
	return a.sentences(seen)
}

// inspect asks one node. What JSON shows as a list is one, also if it is empty.
func (a *app) inspect(cmd *cobra.Command, key string) (*client.Inspection, error) {
	c, err := a.dial(cmd.Context())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	seen, err := c.Inspect(cmd.Context(), []byte(key))
	if err != nil {
		return nil, err
	}
	for i := range seen.Copies {
		one := &seen.Copies[i]
		one.Seen, one.Siblings, one.Incorporated = listed(one.Seen), listed(one.Siblings), listed(one.Incorporated)
	}
	seen.Copies, seen.Why = listed(seen.Copies), listed(seen.Why)
	return seen, nil
}

// listed is a list that JSON does not show as null.
func listed[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func (a *app) sentences(seen *client.Inspection) error {
	for _, s := range seen.Why {
		if _, err := fmt.Fprintln(a.out, s); err != nil {
			return err
		}
	}
	return nil
}

// inspectRows has a row for each sibling of each copy, and one for a copy without
// any.
func inspectRows(seen *client.Inspection) [][]string {
	rows := [][]string{{"COPY", "DIGEST", "DOT", "KIND", "SIZE", "WRITTEN", "EXPIRES", "VALUE DIGEST"}}
	names := make(map[string]string, len(seen.Copies))
	for i := range seen.Copies {
		names[seen.Copies[i].Member] = copyName(&seen.Copies[i])
	}
	for i := range seen.Copies {
		c := &seen.Copies[i]
		name := copyName(c)
		if c.StandsInFor != "" {
			home := names[c.StandsInFor]
			if home == "" {
				home = short(c.StandsInFor)
			}
			name += " for " + home
		}
		switch {
		case c.Error != "":
			rows = append(rows, []string{name, "", "", c.Error, "", "", "", ""})
		case !c.Found:
			rows = append(rows, []string{name, "", "", "no record", "", "", "", ""})
		case len(c.Siblings) == 0:
			rows = append(rows, []string{name, short(c.Digest), "", "no sibling", "", "", "", ""})
		}
		for j := range c.Siblings {
			s := &c.Siblings[j]
			rows = append(rows, []string{name, short(c.Digest), dotText(s.Actor, s.Seq), kindOf(s), sizeOf(s),
				instant(time.UnixMilli(s.Written)), expiryOf(s), short(s.Digest)})
		}
	}
	return rows
}

// copyName is what people call the member of a copy.
func copyName(c *client.InspectedCopy) string {
	if c.Name != "" {
		return c.Name
	}
	return short(c.Member)
}

func kindOf(s *client.InspectedSibling) string {
	switch {
	case s.Tombstone:
		return "deleted"
	case s.Expired:
		return "expired"
	}
	return "value"
}

func sizeOf(s *client.InspectedSibling) string {
	if s.Tombstone {
		return ""
	}
	return byteSize(int64(s.Size))
}

func expiryOf(s *client.InspectedSibling) string {
	if s.Expiry == 0 {
		return ""
	}
	return instant(time.UnixMilli(int64(s.Expiry)))
}

// dotText is a write's name as the sentences have it.
func dotText(actor string, seq uint64) string {
	return short(actor) + ":" + strconv.FormatUint(seq, 10)
}

// short is the beginning of a long hexadecimal name.
func short(s string) string { return s[:min(len(s), 8)] }
