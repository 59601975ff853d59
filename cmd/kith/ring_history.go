package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
)

func (a *app) historyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "history",
		Short: "Show what the latest ring records have changed",
		Long: `Show what the latest ring records have changed, oldest first, as the node that
answers has adopted them. It remembers those that it has seen, and only a number of
them; one that was away has what it has missed as one change.`,
		Example: `  kith ring history
  kith ring history --format json`,
		Args: a.want(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			h, err := c.History(cmd.Context())
			if err != nil {
				return err
			}
			return a.printHistory(h)
		},
	}
}

// recordedJSON is what one ring record has changed.
type recordedJSON struct {
	Epoch uint64   `json:"epoch"`
	Time  int64    `json:"time"` // of its adoption, in milliseconds since 1970
	Said  []string `json:"said"`
}

func (a *app) printHistory(h *client.RingHistory) error {
	if a.format == formatJSON {
		changes := []recordedJSON{}
		for _, ch := range h.Changes {
			changes = append(changes, recordedJSON{ch.Epoch, ch.Time, append([]string{}, ch.Said...)})
		}
		return a.writeJSON(struct {
			Schema  string         `json:"schema"`
			Changes []recordedJSON `json:"changes"`
		}{"ring-history/v1", changes})
	}
	rows := [][]string{{"EPOCH", "TIME", "CHANGE"}}
	for _, ch := range h.Changes {
		epoch, at := fmt.Sprint(ch.Epoch), time.UnixMilli(ch.Time).UTC().Format(time.RFC3339)
		for _, line := range ch.Said {
			rows = append(rows, []string{epoch, at, line})
			epoch, at = "", ""
		}
	}
	return a.table(rows)
}
