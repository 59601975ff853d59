package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/ring"
)

const (
	// drainPause lies between two looks at a server that drains, and drainLook bounds
	// one.
	drainPause = 100 * time.Millisecond
	drainLook  = time.Second
	// drainGrace is how much longer than its limit a server may take to end.
	drainGrace = 10 * time.Second
	// limitMax is the longest --limit.
	limitMax = time.Hour
)

// drained is the document of drain.
type drained struct {
	Schema string `json:"schema"`
	ID     string `json:"id"`
	Name   string `json:"name"`
	// Operations were under way when it began.
	Operations int     `json:"operations"`
	Seconds    float64 `json:"seconds"`
}

func (a *app) drainCommand() *cobra.Command {
	limit := node.DrainDefault
	cmd := &cobra.Command{
		Use:   "drain [NODE]",
		Short: "Have a server finish what it does, and end",
		Long: `Have a server take no new requests of clients, answer those that are under way, and
end. Clients go to other nodes meanwhile, and status says that the node is draining
and not ready. NODE is its name, its ID, or at least the first 8 digits of that;
without it, the one node of --addr is meant.

It stays a member: its copies are missing until it is started again, and then catch
up. To have it hand over what it has, see kith leave. A server that is sent SIGTERM
drains as well.

It is waited for until the server has ended. What is not answered within --limit is
answered as refused or unknown then.`,
		Example: `  kith drain n2
  kith drain --addr 127.0.0.1:7620 --limit 30s`,
		Args:              a.want(0, 1),
		ValidArgsFunction: a.completeMembers(0, anyMember),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < time.Millisecond || limit > limitMax {
				return usagef("--limit %v: want 1ms to %v", limit, limitMax)
			}
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			return a.drain(cmd.Context(), name, limit)
		},
	}
	cmd.Flags().DurationVar(&limit, "limit", limit, "how long requests that are under way may take")
	return cmd
}

func (a *app) drain(ctx context.Context, name string, limit time.Duration) error {
	member, addr, err := a.toDrain(ctx, name)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, []string{addr}, client.Direct(), client.WithTimeout(a.timeout))
	if err != nil {
		return err
	}
	defer c.Close()
	began := time.Now()
	operations, err := c.Drain(ctx, limit)
	// A server with nothing to do may have ended before it was heard.
	if err != nil && !errors.Is(err, client.ErrUnknown) {
		return err
	}
	if err := awaitEnd(ctx, c.Status, addr, err == nil, limit+drainGrace); err != nil {
		return &exitError{exitWait, fmt.Errorf("%s at %s: %w", label(member), addr, err), "see kith status"}
	}
	d := drained{"drain/v1", member.ID.String(), member.Name, operations, time.Since(began).Seconds()}
	if a.format == formatJSON {
		return a.writeJSON(d)
	}
	fmt.Fprintf(a.out, "%s has drained and ended; it stays a member\n", label(member))
	return nil
}

// toDrain is the member that is meant, and where it is.
func (a *app) toDrain(ctx context.Context, name string) (*ring.Member, string, error) {
	if name == "" && len(a.addrs) != 1 {
		return nil, "", usagef("drain: --addr names %d nodes: say which one is meant: kith drain NODE", len(a.addrs))
	}
	view, err := a.ringView(ctx)
	if err != nil {
		return nil, "", err
	}
	if name == "" {
		st, err := a.look(ctx)
		if err != nil {
			return nil, "", err
		}
		name = st.Node
	}
	m, err := memberOf(view.Record, name)
	if err != nil {
		return nil, "", err
	}
	if m == nil {
		return nil, "", usagef("drain %s: there is no such member: see kith status", name)
	}
	for _, at := range view.Members {
		if at.ID == m.ID && at.Addr != "" {
			return m, at.Addr, nil
		}
	}
	return nil, "", fmt.Errorf("drain %s: nobody knows its address", label(m))
}

// awaitEnd waits until a server has ended: nobody listens at its address any more, or,
// where it is known that it was told, who does is not draining. One that does not answer
// may be at work.
func awaitEnd(ctx context.Context, status func(context.Context) (*client.Status, error), addr string, told bool, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(drainPause)
	defer tick.Stop()
	for {
		if gone(ctx, addr) {
			return nil
		}
		look, cancel := context.WithTimeout(ctx, drainLook)
		st, err := status(look)
		cancel()
		if told && err == nil && !drains(st) {
			return nil // it was started again
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("it has not ended after %v", most)
		}
	}
}

// gone says that nobody listens at an address.
func gone(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, drainLook)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// drains says that the node that tells of itself is draining.
func drains(st *client.Status) bool {
	return slices.ContainsFunc(st.Members, func(m client.MemberStatus) bool { return m.ID == st.Node && m.State == "draining" })
}
