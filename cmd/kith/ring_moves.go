package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
)

// movesFlags are those of ring moves.
type movesFlags struct {
	watch bool
	all   bool
}

func (a *app) movesCommand() *cobra.Command {
	f := &movesFlags{}
	cmd := &cobra.Command{
		Use:   "moves",
		Short: "Show the slots that are moving from one member to another",
		Long: `Show the slots that are moving from one member to another, how far each is, and
how fast. A slot is one of the homes of one partition.

A move is in the phase plan while it is queued; dual while both members take writes
and the new one pulls what the old one has; read-new while the new one answers reads
and looks again; back while it is being turned back.

With --watch, show how far all is until nothing is left to move, as long as it takes
or until --timeout if that is given. The exit status is 124 if it is not done by then.`,
		Example: `  kith ring moves
  kith ring moves --all
  kith ring moves --watch
  kith ring moves --format json`,
		Args: a.want(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if f.watch && cmd.Flags().Changed("timeout") {
				limited, cancel := context.WithTimeout(ctx, a.timeout)
				defer cancel()
				ctx = limited
			}
			return a.moves(ctx, f)
		},
	}
	cmd.Flags().BoolVar(&f.watch, "watch", false, "look until nothing is left to move")
	cmd.Flags().BoolVar(&f.all, "all", false, "list those that are only queued, too, and all that they wait for")
	return cmd
}

func (a *app) moves(ctx context.Context, f *movesFlags) error {
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if f.watch {
		m := &moving{c: c, left: -1, done: func(r *ring.Record) (bool, error) { return settled(r), nil }}
		if err := a.wait(ctx, m, "the moves go on without this command"); err != nil {
			return err
		}
	}
	view, err := c.Ring(ctx)
	if err != nil {
		return err
	}
	moves, err := c.Moves(ctx)
	if err != nil {
		return err
	}
	return a.printMoves(f, view.Record, moves)
}

// moveJSON is one move as scripts see it.
type moveJSON struct {
	Partition uint16 `json:"partition"`
	Slot      uint8  `json:"slot"`
	From      string `json:"from"`
	To        string `json:"to"`
	Phase     string `json:"phase"`
	Keys      uint64 `json:"keys"`
	Bytes     uint64 `json:"bytes"`
	Of        uint64 `json:"of"`              // bytes that the source has; 0 is unknown
	Waits     string `json:"waits,omitempty"` // why it does not go on
}

// movesJSON is the document of ring moves.
type movesJSON struct {
	Schema  string     `json:"schema"`
	Epoch   uint64     `json:"epoch"`
	Slots   int        `json:"slots"` // that change hands until all is done; -1 is unknown
	Queued  int        `json:"queued"`
	Running int        `json:"running"`
	Done    int        `json:"done"`    // since the node that answers started
	Bytes   uint64     `json:"bytes"`   // moved, since the members started
	Rate    uint64     `json:"rate"`    // bytes a second
	Seconds float64    `json:"seconds"` // until nothing is left; 0 is unknown
	Moves   []moveJSON `json:"moves"`
}

func (a *app) printMoves(f *movesFlags, r *ring.Record, moves *client.RingMoves) error {
	left := slotsToMove(r)
	if a.format == formatJSON {
		doc := movesJSON{"ring-moves/v1", moves.Epoch, left, moves.Queued, moves.Running, moves.Done, moves.Bytes, moves.Rate, moves.Seconds, []moveJSON{}}
		for _, m := range moves.Moves {
			from, to := ends(m.From, m.To)
			doc.Moves = append(doc.Moves, moveJSON{uint16(m.Partition), m.Slot, from, to, m.Phase, m.Keys, m.Bytes, m.Of, m.Waits})
		}
		return a.writeJSON(doc)
	}
	rows := [][]string{{"PARTITION", "SLOT", "FROM", "TO", "PHASE", "KEYS", "MOVED", "OF"}}
	for _, m := range moves.Moves {
		if m.Phase == ring.PhasePlan.String() && !f.all {
			continue
		}
		of := "-"
		if m.Of > 0 {
			of = byteSize(int64(m.Of))
		}
		rows = append(rows, []string{fmt.Sprint(m.Partition), fmt.Sprint(m.Slot), endOf(r, m.From), endOf(r, m.To), m.Phase,
			fmt.Sprint(m.Keys), byteSize(int64(m.Bytes)), of})
	}
	if len(rows) > 1 {
		if err := a.table(rows); err != nil {
			return err
		}
	}
	if len(moves.Moves) == 0 && left <= 0 {
		fmt.Fprintf(a.out, "epoch %d: nothing moves\n", moves.Epoch)
		return nil
	}
	fmt.Fprintf(a.out, "epoch %d: %s\n", moves.Epoch, movesLine(moves, left))
	a.printWaits(f, moves)
	return nil
}

// waitsShown is how many reasons are shown of moves that do not go on, unless all are
// asked for.
const waitsShown = 3

// printWaits shows why moves do not go on, each reason once.
func (a *app) printWaits(f *movesFlags, moves *client.RingMoves) {
	said := map[string]bool{}
	for _, m := range moves.Moves {
		if m.Waits == "" || said[m.Waits] {
			continue
		}
		said[m.Waits] = true
		if len(said) <= waitsShown || f.all {
			fmt.Fprintf(a.out, "partition %d waits: %s\n", m.Partition, reason(m.Waits))
		}
	}
	if more := len(said) - waitsShown; more > 0 && !f.all {
		fmt.Fprintf(a.out, "and for %d more reasons: see kith ring moves --all\n", more)
	}
}

func (a *app) abortCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "abort [NODE]",
		Short: "Take back the joins and leaves that are not done yet",
		Long: `Take back the joins, leaves and replacements that are not done yet, of one member
or of all: who was about to leave stays, and who was about to get a share goes back to
standby. Moves in the queue are taken out; those under way are turned back, or
finished and then undone, so that nothing is lost and nobody reads anything old.

What has moved already moves back. A join of which half is done is not taken back:
have the member leave. A removal cannot be taken back at all.`,
		Example: `  kith ring abort
  kith ring abort n4`,
		Args:              a.want(0, 1),
		ValidArgsFunction: a.completeMembers(0, inState(ring.Active, ring.Leaving)),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := client.RingRequest{Verb: client.RingAbort}
			if len(args) > 0 {
				if req.Member = args[0]; req.Member == "" {
					return usagef("abort: the name of the member is empty")
				}
			}
			ctx, cancel := a.changeLimit(cmd, false)
			defer cancel()
			return a.change(ctx, &change{verb: client.RingAbort}, req, &changeFlags{})
		},
	}
}
