package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
)

// changeTimeout is the default of --timeout for changes of the ring: a majority of
// those who vote on it has to store the change.
const changeTimeout = 30 * time.Second

// change is one change of the membership: a verb of its own, and a plan.
type change struct {
	verb client.RingVerb
	use  string // behind the verb
	args int
	// self says that the argument may be missing: then it is the node that is
	// asked.
	self  bool
	short string
	plans string // the short text of the plan
	long  string
	// example has %s in the place of the command.
	example []string
	fits    func(*ring.Member) bool // for completion of the first argument
}

// changes are those that have a plan, in the order of help.
var changes = []change{
	{
		verb: client.RingJoin, use: "[NODE]", self: true,
		short: "Give a member its share of the keys", plans: "What a join would move",
		long: `Give a member on standby its share of the keys, or take back the leave of one.
NODE is its name, its ID, or at least the first 8 digits of that; without it,
the one node of --addr is meant.

A server with --join does this by itself, unless it has --standby; with --wait, a
server that was just started is waited for, until it has its share.`,
		example: []string{"%s n4", "%s --addr 127.0.0.1:7640"},
		fits:    inState(ring.Standby, ring.Leaving, ring.Retreating),
	},
	{
		verb: client.RingLeave, use: "[NODE]", self: true,
		short: "Have a member hand over all it has, and go", plans: "What a leave would move",
		long: `Have a member hand all that it is home of to the others, and be no member any
more then. NODE is its name, its ID, or at least the first 8 digits of that;
without it, the one node of --addr is meant.

The member must run until that is done: see kith ring moves, or --wait. Until
then it can be taken back: kith ring abort NODE. Once it is done, that is for good:
the server ends by itself, its ID never comes back, and it joins again only with an
empty directory.

A server that is only stopped does not leave: it keeps what is its own. One that is
dead for good cannot leave: see kith remove.`,
		example: []string{"%s n4", "%s n4 --wait", "%s --addr 127.0.0.1:7640"},
		fits:    inState(ring.Active),
	},
	{
		verb: client.RingRemove, use: "NODE", args: 1,
		short: "Give up a member that is dead for good", plans: "What a removal would move",
		long: `Give up a member that is dead for good: the others make anew, from the copies that
they have, what it was home of. NODE is its name, its ID, or at least the first 8
digits of that.

That cannot be taken back: the member counts for nothing from now on, and its ID
never comes back, even if its disk is found again. One that still works should
leave instead (kith leave), and one that is only away comes back by itself. Who has
the only copy of something, as far as homes can be reached, is not given up, unless
--data-lost accepts that this is lost: its keys begin anew then, empty.`,
		example: []string{"%s n4", "%s 1f0c2a77 --wait"},
		fits:    anyMember,
	},
	{
		verb: client.RingReplace, use: "OLD --with NEW", args: 1,
		short: "Move all that a member has to another one", plans: "What a replacement would move",
		long: `Move everything that OLD is home of to NEW, a member on standby (kith server --join
HOST:PORT --standby), with the weight of OLD. OLD hands it over itself where it
works; where it does not, the other homes do. Then it is no member any more, and
its ID never comes back. Both are named by name, ID, or at least its first 8 digits.

To give the place of a member whose disk is lost to a new server at once, start
that one with kith server --replace OLD.`,
		example: []string{"%s n3 --with n6", "%s n3 --with n6 --wait"},
		fits:    inState(ring.Active, ring.Leaving, ring.Lost),
	},
	{
		verb: client.RingWeight, use: "NODE WEIGHT", args: 2,
		short: "Give a member a larger or smaller share", plans: "What another weight would move",
		long: `Give a member another weight, 1 to 65535: its share of the keys in relation to the
others', who have 1 unless told otherwise. NODE is its name, its ID, or at least
the first 8 digits of that.`,
		example: []string{"%s n1 2"},
		fits:    anyMember,
	},
	replicasChange,
}

// changeFlags are those of one change.
type changeFlags struct {
	with string
	wait bool
	yes  bool
	// dataLost accepts that what nobody else has is lost.
	dataLost bool
}

// changeCommand is the verb that does it.
func (a *app) changeCommand(ch *change) *cobra.Command {
	f := &changeFlags{}
	cmd := a.changeSyntax(ch, f, "kith "+ch.verb.String())
	cmd.Short = ch.short
	cmd.Long = ch.long + `

A change is answered once it is decided, within --timeout (here 30s unless given).
With --wait, wait until everything is where it should be, as long as it takes or
until --timeout if that is given. What would move, and how much, is shown before
by: kith ring plan ` + ch.verb.String()
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req, err := ch.request(args, f)
		if err != nil {
			return err
		}
		limited, cancel := a.changeLimit(cmd, f.wait)
		defer cancel()
		return a.change(limited, ch, req, f)
	}
	cmd.Flags().BoolVar(&f.wait, "wait", false, "wait until everything is where it should be")
	if ch.verb == client.RingRemove {
		cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask (it is only asked on a terminal)")
	}
	return cmd
}

// changeSyntax is what a change and its plan have in common.
func (a *app) changeSyntax(ch *change, f *changeFlags, typed string) *cobra.Command {
	least := ch.args
	most := max(least, 1)
	lines := make([]string, len(ch.example))
	for i, e := range ch.example {
		lines[i] = "  " + fmt.Sprintf(e, typed)
	}
	cmd := &cobra.Command{
		Use:               ch.verb.String() + " " + ch.use,
		Example:           strings.Join(lines, "\n"),
		Args:              a.want(least, most),
		ValidArgsFunction: a.completeMembers(0, ch.fits),
	}
	if ch.verb == client.RingReplicas {
		cmd.ValidArgsFunction = completeReplicas
	}
	if ch.verb == client.RingReplace || ch.verb == client.RingRemove {
		cmd.Flags().BoolVar(&f.dataLost, "data-lost", false, "accept that keys are lost for good of which it has the only copy")
	}
	if ch.verb == client.RingReplace {
		cmd.Flags().StringVar(&f.with, "with", "", "the member that gets it all (required)")
		check(cmd.RegisterFlagCompletionFunc("with", a.completeMembers(-1, inState(ring.Standby))))
	}
	return cmd
}

// request reads the arguments.
func (ch *change) request(args []string, f *changeFlags) (client.RingRequest, error) {
	if ch.verb == client.RingReplicas {
		return replicasRequest(args)
	}
	req := client.RingRequest{Verb: ch.verb, With: f.with, DataLost: f.dataLost}
	if len(args) > 0 {
		if req.Member = args[0]; req.Member == "" {
			return req, usagef("%s: the name of the member is empty", ch.verb)
		}
	}
	if ch.verb == client.RingReplace && f.with == "" {
		return req, usagef("%s: say who takes the place: --with NEW", ch.verb)
	}
	if ch.verb == client.RingWeight {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 || n > math.MaxUint16 {
			return req, usagef("%s %q: want a weight of 1 to %d", ch.verb, args[1], math.MaxUint16)
		}
		req.Number = n
	}
	return req, nil
}

// changeLimit gives the change its time: --timeout bounds each request, and all of a
// wait if it was given.
func (a *app) changeLimit(cmd *cobra.Command, wait bool) (context.Context, context.CancelFunc) {
	if !cmd.Flags().Changed("timeout") {
		a.timeout = changeTimeout
	} else if wait {
		return context.WithTimeout(cmd.Context(), a.timeout)
	}
	return cmd.Context(), func() {}
}

// behindPause and behindTries are for nodes that have not heard yet of a member that
// another one has told of.
const (
	behindPause = 200 * time.Millisecond
	behindTries = 15
)

// told asks for what needs the members of r, again where the node that was asked does
// not know them yet.
func told[T any](ctx context.Context, r *ring.Record, req client.RingRequest, ask func(context.Context, client.RingRequest) (T, error)) (T, error) {
	known := true
	for _, text := range []string{req.Member, req.With} {
		m, err := memberOf(r, text)
		known = known && (text == "" || err == nil && m != nil)
	}
	for try := 1; ; try++ {
		got, err := ask(ctx, req)
		if !known || !errors.Is(err, client.ErrBadRequest) || try == behindTries {
			return got, err
		}
		t := time.NewTimer(behindPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return got, err
		}
	}
}

// name fills in the IDs of those that the request speaks of, as far as the ring
// knows them; what it does not know is left for the node that is asked to judge.
func (a *app) name(ctx context.Context, r *ring.Record, ch *change, req *client.RingRequest) error {
	if req.Member == "" && ch.self {
		if len(a.addrs) != 1 {
			return usagef("%s: --addr names %d nodes: say which one is meant: kith %s NODE", ch.verb, len(a.addrs), ch.verb)
		}
		st, err := a.look(ctx)
		if err != nil {
			return err
		}
		req.Member = st.Node
	}
	for _, text := range []*string{&req.Member, &req.With} {
		if *text == "" {
			continue
		}
		m, err := memberOf(r, *text)
		if err != nil {
			return err
		}
		if m != nil {
			*text = m.ID.String()
		}
	}
	return nil
}

// newcomer waits until somebody who was just started is a member, for as long as one
// operation may take, and gives the ring of which it is one.
func (a *app) newcomer(ctx context.Context, c *client.Client, view client.RingView, name string) (client.RingView, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	for {
		if m, err := memberOf(view.Record, name); m != nil || err != nil || name == "" {
			return view, nil
		}
		t := time.NewTimer(behindPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return view, ctx.Err()
			}
			return view, &exitError{exitWait, fmt.Errorf("join: no member is called %q after %v", name, a.timeout), "see kith status, and the server's log"}
		}
		if next, err := c.Ring(ctx); err == nil {
			view = next
		}
	}
}

// changeJSON is the document of a change.
type changeJSON struct {
	Schema  string `json:"schema"`
	Verb    string `json:"verb"`
	Member  string `json:"member,omitempty"`
	With    string `json:"with,omitempty"`
	Number  int    `json:"number,omitempty"`
	Outcome string `json:"outcome"`
	*client.RingOutcome
	Waited bool `json:"waited"` // everything is where it should be
}

// change has it decided, says what follows, and waits for that if it shall.
func (a *app) change(ctx context.Context, ch *change, req client.RingRequest, f *changeFlags) error {
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	view, err := c.Ring(ctx)
	if err != nil {
		return err
	}
	if ch.verb == client.RingJoin && f.wait {
		if view, err = a.newcomer(ctx, c, view, req.Member); err != nil {
			return err
		}
	}
	if err := a.name(ctx, view.Record, ch, &req); err != nil {
		return err
	}
	if err := ch.spares(view, &req); err != nil {
		return err
	}
	if ch.verb == client.RingRemove && !f.yes {
		if err := a.askRemove(view.Record, req.Member, f.dataLost); err != nil {
			return err
		}
	}
	var plan *client.RingPlan
	if a.format == formatTable {
		plan, _ = told(ctx, view.Record, req, c.Plan) // the change itself says what is wrong
	}
	done, err := told(ctx, view.Record, req, c.Change)
	if err != nil {
		return err
	}
	if a.format == formatTable {
		a.printChange(done)
		if done.Changed {
			a.hint("%s", ch.follows(view.Record, &req, plan, f.wait))
		}
	}
	if f.wait {
		if err := a.waitChange(ctx, c, ch, &req, view.Record, done.Epoch); err != nil {
			return err
		}
	}
	if a.format == formatJSON {
		return a.writeJSON(changeJSON{"ring-change/v1", ch.verb.String(), req.Member, req.With, req.Number, "done", withSaid(done), f.wait})
	}
	return nil
}

// withSaid has an empty list where nothing is said, for scripts.
func withSaid(done *client.RingOutcome) *client.RingOutcome {
	if done.Said == nil {
		done.Said = []string{}
	}
	return done
}

// printChange shows what was decided.
func (a *app) printChange(done *client.RingOutcome) {
	if !done.Changed {
		fmt.Fprintf(a.out, "epoch %d: that stands already, nothing changes\n", done.Epoch)
		return
	}
	for _, line := range done.Said {
		fmt.Fprintf(a.out, "epoch %d: %s\n", done.Epoch, line)
	}
}

// askRemove makes sure, where people can be asked.
func (a *app) askRemove(r *ring.Record, member string, dataLost bool) error {
	if !isTerminal(a.in) || !isTerminal(a.errs) {
		return nil
	}
	name := member
	if m, _ := memberOf(r, member); m != nil {
		name = label(m)
	}
	fmt.Fprintf(a.errs, "%s will be given up for good: it counts for nothing from now on, and its ID never comes back,\neven if its disk is found again. ", name)
	if n := onlyCopies(r, memberID(r, member)); dataLost && n > 0 {
		fmt.Fprintf(a.errs, "It has the only copy of %d of %d partitions: THEIR KEYS ARE LOST. ", n, r.Partitions)
	}
	fmt.Fprint(a.errs, "Remove it? [y/N] ")
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
		return &exitError{exitRefused, errors.New("not confirmed: nothing was changed"), ""}
	}
	return nil
}

// follows says what happens behind the answer, and how to look at it.
func (ch *change) follows(r *ring.Record, req *client.RingRequest, plan *client.RingPlan, waits bool) string {
	name := func(text string) string {
		if m, _ := memberOf(r, text); m != nil {
			return nameOf(r, m.ID)
		}
		return text
	}
	who, size := name(req.Member), plannedSize(plan)
	var text string
	switch ch.verb {
	case client.RingJoin:
		text = fmt.Sprintf("%s is given its share: %s. Reads and writes go on meanwhile.", who, size)
	case client.RingLeave:
		text = fmt.Sprintf("%s hands over what it has: %s. It must run until then, and is no member any more afterwards.", who, size)
	case client.RingRemove:
		text = fmt.Sprintf("%s is given up; the others make anew what it had: %s. Until then each of these keys has a copy less.", who, size)
	case client.RingReplace:
		text = fmt.Sprintf("%s gets what %s has: %s. %s is no member any more afterwards.", name(req.With), who, size, who)
	case client.RingWeight:
		text = fmt.Sprintf("the shares change: %s. Reads and writes go on meanwhile.", size)
	case client.RingReplicas:
		text = replicasFollow(r.Replicas, req.Number, plan)
	case client.RingAbort:
		text = fmt.Sprintf("what was begun is taken back, and what has moved already moves back: %s.", size)
	}
	if waits {
		return text
	}
	text += "\nhow far it is: kith ring moves --watch"
	switch ch.verb {
	case client.RingJoin, client.RingLeave:
		text += "; to take it back: kith ring abort " + who
	case client.RingReplicas:
		text += "; to take it back: kith ring abort"
	case client.RingReplace:
		text += fmt.Sprintf("; to take it back: kith ring abort %s && kith ring abort %s", who, name(req.With))
	}
	return text
}

// plannedSize is how much a change moves, for people.
func plannedSize(plan *client.RingPlan) string {
	if plan == nil {
		return "slots move"
	}
	text := fmt.Sprintf("%d slots move, %s", plan.Slots, byteSize(int64(plan.Bytes)))
	if plan.Seconds > 0 {
		text += ", about " + duration(time.Duration(plan.Seconds*float64(time.Second)))
	}
	return text
}
