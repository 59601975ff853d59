package processes

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/trace"
)

// Bounds of every story, in both worlds.
const (
	// ReadyMax is how long the founding may take.
	ReadyMax = 60 * time.Second
	// NoticeMax is how long it may take until every node shows who can be
	// reached after something broke, and HealMax after it was mended.
	NoticeMax = 30 * time.Second
	HealMax   = 30 * time.Second
	// settleMax is how long the copies of one key may differ in the end.
	settleMax = time.Minute
	// storyMax is how long it may take until the crowd has used the key that the
	// trace tells of: a story may be over before.
	storyMax = 30 * time.Second
)

// Result is what came of a story in one world.
type Result struct {
	// Answers are what each question was answered, in both worlds the same.
	Answers map[Question][]string
	// Took is how long the cluster needed to notice and to heal.
	Took map[string]time.Duration
	// History is all that clients did.
	History *sim.History
	// Run is for the report.
	Run *trace.Run
}

// play is one story that is under way.
type play struct {
	world   World
	names   []string
	history *sim.History
	direct  []*sim.Client // one for each node
	homes   func(key string) []int
	ids     map[string]int // node by ID
	short   map[string]string
	result  *Result

	// Of questions, in the order in which they were first asked.
	order  []Question
	asked  map[Question]int
	wrong  map[Question][]string
	named  int       // keys that questions have made up
	never  []string  // keys that nothing can have been written to
	mortal []*sim.Op // puts of values that expire
	key    string    // the one that the trace's story is about

	mu    sync.Mutex // guards what follows
	began time.Time
	state []string // of nodes: up, down, paused
	cut   [][]bool // from, to
	sees  [][]bool // the latest status of each
	metas map[*sim.Op]meta
	run   *trace.Run
}

// meta is what a history does not tell of an operation.
type meta struct {
	via, side, level string
}

// Play plays a story on a world that was just started, and judges what came of
// it. The result is there also with an error, which says that the story could
// not be told to its end.
func Play(w World, s Story) (*Result, error) {
	p := newPlay(w, s)
	err := p.begin()
	if err == nil {
		stop := func() {}
		if !s.alone {
			stop = p.crowd()
		}
		stopSamples := p.sample()
		err = s.tell(p)
		if err == nil && !s.alone {
			err = p.until("told", storyMax, p.storied)
		}
		stop()
		stopSamples()
	}
	if err == nil {
		err = p.end()
	}
	for _, c := range p.direct {
		c.Close()
	}
	p.finish(err)
	return p.result, err
}

func newPlay(w World, s Story) *play {
	p := &play{
		world: w, names: w.Names(), history: sim.NewHistory(), began: time.Now(),
		key: sharedKey(0), asked: map[Question]int{}, wrong: map[Question][]string{},
		metas: map[*sim.Op]meta{}, ids: map[string]int{}, short: map[string]string{},
	}
	p.run = &trace.Run{Title: s.Title, Text: s.Text, World: w.Kind(), Replicas: replicas, Partitions: partitions}
	for range p.names {
		p.state = append(p.state, "up")
		p.cut = append(p.cut, make([]bool, len(p.names)))
		p.sees = append(p.sees, make([]bool, len(p.names)))
	}
	for _, name := range p.names {
		p.run.Nodes = append(p.run.Nodes, trace.Node{Name: name})
	}
	p.result = &Result{Answers: map[Question][]string{}, Took: map[string]time.Duration{}, History: p.history, Run: p.run}
	return p
}

// begin waits until the cluster is founded, and learns where keys live.
func (p *play) begin() error {
	for i, name := range p.names {
		c, err := p.world.Dial(p.history, []client.Option{client.Direct()}, i)
		if err != nil {
			return fmt.Errorf("dial %s: %w", name, err)
		}
		c.Name = "via " + name
		p.direct = append(p.direct, c)
	}
	if err := p.until("ready", ReadyMax, p.ready); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	view, err := p.direct[0].Ring(ctx)
	if err != nil {
		return fmt.Errorf("ring of %s: %w", p.names[0], err)
	}
	nodeOf := map[ring.NodeID]int{}
	for _, m := range view.Record.Members {
		i, ok := p.ids[m.ID.String()]
		if !ok {
			return fmt.Errorf("the ring's member %s is no node of ours", m.ID)
		}
		nodeOf[m.ID] = i
		p.short[m.ID.Short()] = p.names[i]
	}
	p.homes = func(key string) (homes []int) {
		for _, id := range view.Record.Homes(view.Record.PartitionOf([]byte(key))) {
			homes = append(homes, nodeOf[id])
		}
		return homes
	}
	p.event(trace.Event{Kind: "ready", Nodes: p.names})
	return nil
}

// ready says what is missing until every node serves and sees all others.
func (p *play) ready() error {
	for i, name := range p.names {
		s, err := p.status(i)
		if err != nil {
			return err
		}
		if !s.Ready {
			return fmt.Errorf("%s is not ready: %s", name, s.Reason)
		}
	}
	return p.seen()
}

// seen compares what every node that runs sees with what is so, and wants it to
// count for reads.
func (p *play) seen() error {
	for i, name := range p.names {
		if !p.is(i, "up") {
			continue
		}
		s, err := p.status(i)
		if err != nil {
			return err
		}
		for _, m := range s.Members {
			if m.Name == name && m.State != "ready" {
				return fmt.Errorf("%s is %s", name, m.State)
			}
		}
		p.mu.Lock()
		sees, want := p.sees[i], p.reaches(i)
		p.mu.Unlock()
		for j := range sees {
			if sees[j] != want[j] {
				return fmt.Errorf("%s shows %s as reachable: %v", name, p.names[j], sees[j])
			}
		}
	}
	return nil
}

// reaches says whom a node can talk to: what is lost one way is lost for requests
// of both. mu is held.
func (p *play) reaches(i int) []bool {
	out := make([]bool, len(p.names))
	for j := range out {
		out[j] = i == j || p.state[j] == "up" && !p.cut[i][j] && !p.cut[j][i]
	}
	return out
}

// status asks one node how the cluster is, and remembers whom it sees.
func (p *play) status(i int) (*client.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := p.direct[i].Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", p.names[i], err)
	}
	for _, m := range s.Members {
		if j := slices.Index(p.names, m.Name); j >= 0 {
			p.ids[m.ID] = j
		}
	}
	p.mu.Lock()
	p.sees[i] = p.seenIn(s)
	p.mu.Unlock()
	return s, nil
}

// seenIn reads off a status whom a node holds for reachable.
func (p *play) seenIn(s *client.Status) []bool {
	return p.which(s, func(m *client.MemberStatus) bool { return m.Reachable })
}

// heardIn reads off a status who has told the node about itself.
func (p *play) heardIn(s *client.Status) []bool {
	return p.which(s, func(m *client.MemberStatus) bool { return m.Reachable && m.State != "unreachable" })
}

func (p *play) which(s *client.Status, is func(*client.MemberStatus) bool) []bool {
	out := make([]bool, len(p.names))
	for i := range s.Members {
		if j := slices.Index(p.names, s.Members[i].Name); j >= 0 {
			out[j] = is(&s.Members[i])
		}
	}
	return out
}

// until waits until ok has nothing to say against it, and keeps how long that
// took under a name.
func (p *play) until(name string, most time.Duration, ok func() error) error {
	began := time.Now()
	for {
		err := ok()
		took := time.Since(began)
		if err == nil {
			p.result.Took[name] = took
			p.check(fmt.Sprintf("%s within %v", name, most), took <= most, "after %.1f s", took.Seconds())
			return nil
		}
		if took > most {
			p.check(fmt.Sprintf("%s within %v", name, most), false, "%v", err)
			return fmt.Errorf("not %s after %v: %w", name, most, err)
		}
		rest(context.Background(), 100*time.Millisecond)
	}
}

// noticed waits until every node shows who can be reached now.
func (p *play) noticed() error { return p.settled("noticed", NoticeMax) }

// healed waits until every node reaches all others again.
func (p *play) healed() error { return p.settled("healed", HealMax) }

// settled waits until every node shows what is so, and enters that as a sample:
// a story may take less time than lies between two others.
func (p *play) settled(name string, most time.Duration) error {
	if err := p.until(name, most, p.seen); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := trace.Sample{At: time.Since(p.began)}
	for i, state := range p.state {
		node := trace.NodeSample{State: state, Sees: make([]bool, len(p.names))}
		if state == "up" {
			copy(node.Sees, p.sees[i])
		}
		s.Nodes = append(s.Nodes, node)
	}
	p.run.Samples = append(p.run.Samples, s)
	return nil
}

// storied says whether the crowd has used the key of the trace's story.
func (p *play) storied() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for op := range p.metas {
		if op.Key == p.key && op.Outcome == sim.Done {
			return nil
		}
	}
	return fmt.Errorf("no client has used %q", p.key)
}

// end reads everything at all homes and holds it against the history.
func (p *play) end() error {
	final, err := sim.ReadBack(p.history, p.readers(), p.homes, settleMax)
	p.check(string(sim.Converged), err == nil, "%s", text(err))
	if err != nil {
		return err
	}
	found := sim.Judge(p.history, final)
	for _, promise := range sim.Promises() {
		broken, ok := found[promise]
		p.check(string(promise), !ok, "%s", text(broken.Err))
		if ok {
			p.key = broken.Key
		}
	}
	for _, key := range p.never {
		p.check("what a paused node got too late is not done after it woke", len(final[key]) == 0, "%s shows %v", key, final[key])
	}
	return nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// rest waits for a time, unless the context ends before.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
