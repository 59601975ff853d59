package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
)

func (a *app) ringCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ring [KEY]",
		Short: "Show where a key or every partition lives, the balance, and what moves",
		Long: `Show the homes of a key, or of every partition with the balance: how many slots,
homes of partitions, each member has, and its quota, how many it should have. Behind
that stands whether the ring keeps to its bounds: loads within one slot of the quota,
homes distinct and spread over zones, and no more moved than must be.

A key that is called like one of the verbs stands behind two dashes: kith ring -- plan`,
		Example: `  kith ring greeting
  kith ring
  kith ring --format json
  kith ring plan leave n3
  kith ring moves --watch`,
		Args: a.want(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			view, err := a.ringView(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return a.printRing(view)
			}
			if len(args[0]) == 0 || len(args[0]) > client.KeyMax {
				return usagef("key of %d bytes: want 1 to %d", len(args[0]), client.KeyMax)
			}
			if !view.Record.Founded() {
				return fmt.Errorf("ring: the cluster is not founded yet, no key has a home: %w", client.ErrNotReady)
			}
			return a.printHomes(view, []byte(args[0]))
		},
	}
	cmd.AddCommand(a.planCommand(), a.movesCommand(), a.abortCommand(), a.historyCommand(), a.forceCommand())
	return cmd
}

func (a *app) ringView(ctx context.Context) (client.RingView, error) {
	c, err := a.dial(ctx)
	if err != nil {
		return client.RingView{}, err
	}
	defer c.Close()
	return c.Ring(ctx)
}

// homeJSON is one home of a key.
type homeJSON struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Zone    string `json:"zone"`
	Address string `json:"address"`
	Alive   bool   `json:"alive"`
}

func homesOf(view client.RingView, p ring.Partition) []homeJSON {
	var out []homeJSON
	for _, id := range view.Record.Homes(p) {
		h := homeJSON{ID: id.String()}
		if m := view.Record.Member(id); m != nil {
			h.Name, h.Zone = m.Name, m.Zone
		}
		for _, m := range view.Members {
			if m.ID == id {
				h.Address, h.Alive = m.Addr, m.Alive
			}
		}
		out = append(out, h)
	}
	return out
}

// movingJSON is the move that the partition of a key is in.
type movingJSON struct {
	Slot  uint8  `json:"slot"`
	From  string `json:"from"`
	To    string `json:"to"`
	Phase string `json:"phase"`
}

func movingOf(r *ring.Record, p ring.Partition) *movingJSON {
	m := r.MoveOf(p)
	if m == nil {
		return nil
	}
	from, to := ends(m.From, m.To)
	return &movingJSON{m.Slot, from, to, m.Phase.String()}
}

func (a *app) printHomes(view client.RingView, key []byte) error {
	p := view.Record.PartitionOf(key)
	homes := homesOf(view, p)
	if a.format == formatJSON {
		return a.writeJSON(struct {
			Schema string `json:"schema"`
			keyText
			Slot      uint16      `json:"slot"`
			Partition uint16      `json:"partition"`
			Epoch     uint64      `json:"epoch"`
			Homes     []homeJSON  `json:"homes"`
			Move      *movingJSON `json:"move,omitempty"` // that its partition is in
		}{"ring-key/v1", keyOf(key), ring.SlotOf(key), uint16(p), view.Record.Epoch, homes, movingOf(view.Record, p)})
	}
	fmt.Fprintf(a.out, "slot %d  partition %d  epoch %d\n", ring.SlotOf(key), p, view.Record.Epoch)
	rows := [][]string{{"HOME", "ID", "ZONE", "ADDRESS", "ALIVE"}}
	for _, h := range homes {
		rows = append(rows, []string{h.Name, h.ID[:8], cmp.Or(h.Zone, "-"), cmp.Or(h.Address, "-"), yes(h.Alive)})
	}
	if err := a.table(rows); err != nil {
		return err
	}
	if m := view.Record.MoveOf(p); m != nil {
		fmt.Fprintf(a.out, "a slot moves: %s\n", moveText(view.Record, m))
	}
	return nil
}

// shareJSON is one member's part of the ring.
type shareJSON struct {
	ID     string  `json:"id"`
	Name   string  `json:"name"`
	Zone   string  `json:"zone"`
	State  string  `json:"state"`
	Weight uint16  `json:"weight"`
	Keeper bool    `json:"keeper"`
	Homes  int     `json:"homes"` // table slots that it holds
	First  int     `json:"first"` // partitions of which it is the first home
	Quota  float64 `json:"quota"` // slots that are its fair share
}

func sharesOf(r *ring.Record) []shareJSON {
	balance := r.Balance()
	out := make([]shareJSON, len(balance))
	for i, b := range balance {
		m := b.Member
		out[i] = shareJSON{
			ID: m.ID.String(), Name: m.Name, Zone: m.Zone, State: m.State.String(), Weight: m.Weight,
			Keeper: r.IsKeeper(m.ID), Homes: b.Homes, First: b.First, Quota: b.Share,
		}
	}
	return out
}

// printRing shows every partition, and the balance last, where it is seen.
func (a *app) printRing(view client.RingView) error {
	r := view.Record
	shares, bounds := sharesOf(r), boundsOf(r)
	if a.format == formatJSON {
		partitions := make([][]string, 0, r.Partitions)
		for p := 0; r.Founded() && p < r.Partitions; p++ {
			var ids []string
			for _, id := range r.Homes(ring.Partition(p)) {
				ids = append(ids, id.String())
			}
			partitions = append(partitions, ids)
		}
		return a.writeJSON(struct {
			Schema     string      `json:"schema"`
			ClusterID  string      `json:"cluster_id"`
			Cluster    string      `json:"cluster"`
			Epoch      uint64      `json:"epoch"`
			Replicas   int         `json:"replicas"`
			Before     int         `json:"replicas_before,omitempty"` // while that is changed
			Members    []shareJSON `json:"members"`
			Partitions [][]string  `json:"partitions"`
			Bounds     boundsJSON  `json:"bounds"`
		}{"ring/v1", r.Cluster.String(), r.Name, r.Epoch, r.Replicas, r.Before, shares, partitions, bounds})
	}
	rows := [][]string{{"PARTITION", "HOMES"}}
	if len(r.Moves) > 0 {
		rows[0] = append(rows[0], "MOVES")
	}
	for p := 0; r.Founded() && p < r.Partitions; p++ {
		var names []string
		for _, h := range homesOf(view, ring.Partition(p)) {
			names = append(names, cmp.Or(h.Name, h.ID[:8]))
		}
		row := []string{fmt.Sprint(p), strings.Join(names, " ")}
		if m := r.MoveOf(ring.Partition(p)); m != nil {
			row = append(row, moveText(r, m))
		}
		rows = append(rows, row)
	}
	if err := a.table(rows); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "\ncluster %s (%s)  epoch %d  %s\n", r.Name, r.Cluster, r.Epoch, homesText(r))
	balance := [][]string{{"MEMBER", "ID", "ZONE", "STATE", "WEIGHT", "KEEPER", "HOMES", "QUOTA", "FIRST"}}
	for _, s := range shares {
		balance = append(balance, []string{
			s.Name, s.ID[:8], cmp.Or(s.Zone, "-"), s.State, fmt.Sprint(s.Weight), yes(s.Keeper),
			fmt.Sprint(s.Homes), fmt.Sprintf("%.1f", s.Quota), fmt.Sprint(s.First),
		})
	}
	if err := a.table(balance); err != nil || !r.Founded() {
		return err
	}
	fmt.Fprintln(a.out)
	return a.printBounds(&bounds)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
