package processes

import (
	"fmt"
	"slices"
	"time"

	"github.com/kithdb/kith/client"
)

// clockSlack is more than what a node allows for clocks that differ: so long
// after its deadline a put is done nowhere.
const clockSlack = 3 * time.Second

// Story is something that befalls a cluster, and what is asked meanwhile.
type Story struct {
	Name  string // one word
	Title string
	Text  string // what it shows
	// alone says that no crowd works meanwhile: nobody reads but the story.
	alone bool
	tell  func(p *play) error
}

// Stories are those that both worlds must agree on.
func Stories() []Story {
	return []Story{
		{"halves", "Two nodes are cut off from three",
			"Each side serves the keys of which it has a quorum of homes, and refuses the others at once.", false, tellHalves},
		{"oneway", "One node's packets don't reach another one",
			"Gossip never reports it. The circuits of both ends do, and every key goes on at quorum.", false, tellOneWay},
		{"kill", "A process is killed and started again",
			"Every key goes on at quorum; what wants all homes is refused where the dead one is among them.", false, tellKill},
		{"pause", "A process is stopped and wakes late",
			"What it was asked is unknown by the deadline, and is not done when it wakes.", false, tellPause},
		{"flap", "A node's link comes and goes",
			"Most operations succeed meanwhile, and all when the link stays.", false, tellFlap},
		{"split", "Both sides of a split write at w=one",
			"After the heal all copies become equal without a read: every write is there that no other one has seen, and what was deleted or has expired stays away.", true, tellSplit},
		{"deaf", "A node does not hear another one, and then nobody",
			"Gossip may see nothing of it. Copies become equal over a third home while it lasts, and all of them after the heal.", true, tellDeaf},
		{"mute", "A node hears all others, and nobody hears it",
			"What it was told it may have, and what it has done nobody knows. All copies become equal after the heal.", true, tellMute},
	}
}

// askEverybody wants everything to be done by every node for keys with any homes.
func (p *play) askEverybody(when string) error {
	for via := range p.names {
		err := p.ask(when, "every node for every key", via, func([]int) bool { return true },
			put(client.Quorum, served), get(client.One, served), put(client.All, served), get(client.All, served), get(client.Quorum, served))
		if err != nil {
			return err
		}
	}
	return nil
}

// askReach has nodes that reach only some others coordinate, for keys with
// every number of homes among these.
func (p *play) askReach(when string, vias, reached []int) error {
	for _, via := range vias {
		for n := range replicas + 1 {
			homes := func(homes []int) bool { return among(homes, reached) == n }
			if n > len(reached) || replicas-n > nodes-len(reached) {
				continue // no key has such homes
			}
			tasks := []task{put(client.Quorum, denied), get(client.Quorum, denied), put(client.All, denied), get(client.All, denied), get(client.One, denied)}
			if n > 0 {
				tasks[4].want = served
			}
			if n > replicas/2 {
				tasks[0].want, tasks[1].want = served, served
			}
			if n == replicas {
				tasks[2].want, tasks[3].want = served, served
			}
			where := fmt.Sprintf("%d of %d nodes, %d of %d homes", len(reached), nodes, n, replicas)
			if err := p.ask(when, where, via, homes, tasks...); err != nil {
				return err
			}
		}
	}
	return nil
}

func tellHalves(p *play) error {
	few, many := []int{0, 1}, []int{2, 3, 4}
	if err := p.askEverybody("before"); err != nil {
		return err
	}
	if err := p.partition(few, many); err != nil {
		return err
	}
	// Nobody has noticed yet. A home without another one cannot have a quorum.
	err := p.ask("just cut", "the only home on its side", few[0],
		func(homes []int) bool { return slices.Contains(homes, few[0]) && among(homes, few) == 1 },
		put(client.Quorum, notDone).within(500*time.Millisecond))
	if err != nil {
		return err
	}
	if err := p.noticed(); err != nil {
		return err
	}
	if err := p.askReach("cut", few, few); err != nil {
		return err
	}
	if err := p.askReach("cut", many, many); err != nil {
		return err
	}
	return p.mended()
}

func tellOneWay(p *play) error {
	const deaf, mute = 4, 0 // packets from mute never reach deaf
	if err := p.oneWay(mute, deaf); err != nil {
		return err
	}
	if err := p.noticed(); err != nil {
		return err
	}
	for via := range p.names {
		if err := p.ask("cut", "every node for every key", via, func([]int) bool { return true },
			put(client.Quorum, served), get(client.Quorum, served), get(client.One, served)); err != nil {
			return err
		}
	}
	for _, ends := range [][2]int{{mute, deaf}, {deaf, mute}} {
		via, other := ends[0], ends[1]
		if err := p.ask("cut", "an end, with the other end among the homes", via,
			func(homes []int) bool { return slices.Contains(homes, via) && slices.Contains(homes, other) },
			put(client.All, denied), get(client.All, denied)); err != nil {
			return err
		}
		if err := p.ask("cut", "an end, without the other end among the homes", via,
			func(homes []int) bool { return !slices.Contains(homes, other) },
			put(client.All, served), get(client.All, served)); err != nil {
			return err
		}
		if err := p.ask("cut", "an end, forwarding to a home that reaches the other end", via,
			func(homes []int) bool { return !slices.Contains(homes, via) && slices.Contains(homes, other) },
			put(client.All, served)); err != nil {
			return err
		}
	}
	return p.mended()
}

func tellKill(p *play) error {
	const dead = 2
	if err := p.kill(dead); err != nil {
		return err
	}
	if err := p.noticed(); err != nil {
		return err
	}
	if err := p.askReach("down", others(dead), others(dead)); err != nil {
		return err
	}
	if err := p.ask("down", "the dead node itself", dead, func([]int) bool { return true },
		put(client.Quorum, denied)); err != nil {
		return err
	}
	if err := p.start(dead); err != nil {
		return err
	}
	if err := p.healed(); err != nil {
		return err
	}
	return p.askEverybody("after")
}

func tellPause(p *play) error {
	const asleep = 3
	if err := p.pause(asleep); err != nil {
		return err
	}
	if err := p.noticed(); err != nil {
		return err
	}
	// The first one leaves on a connection that stands. Later ones may find it
	// given up, and no new one to be had: they are refused, having left nowhere.
	anyKey, asked := func([]int) bool { return true }, len(p.history.Ops())
	if err := p.askSome(1, "paused", "the paused node itself, first", asleep, anyKey, put(client.Quorum, unsure).within(time.Second)); err != nil {
		return err
	}
	if err := p.ask("paused", "the paused node itself", asleep, anyKey,
		put(client.Quorum, notDone).within(time.Second), get(client.One, notDone).within(time.Second)); err != nil {
		return err
	}
	for _, op := range p.history.Ops()[asked:] {
		if op.Client == p.direct[asleep].Name && !op.Read {
			p.never = append(p.never, op.Key)
		}
	}
	p.rest(clockSlack)
	if err := p.askReach("paused", others(asleep), others(asleep)); err != nil {
		return err
	}
	if err := p.resume(asleep); err != nil {
		return err
	}
	if err := p.healed(); err != nil {
		return err
	}
	return p.askEverybody("after")
}

func tellFlap(p *play) error {
	const (
		loose = 4
		times = 4
		every = 1500 * time.Millisecond
	)
	began := time.Now()
	for i := range times {
		if i > 0 {
			if err := p.heal(); err != nil {
				return err
			}
			p.rest(every)
		}
		if err := p.partition([]int{loose}, others(loose)); err != nil {
			return err
		}
		p.rest(every)
	}
	share, all := p.crowdDone(began)
	p.check("at least half of all operations are done while the link comes and goes", all > 0 && share >= 0.5, "%.0f %% of %d", 100*share, all)
	return p.mended()
}

// mended heals the network and sees all go on.
func (p *play) mended() error {
	if err := p.heal(); err != nil {
		return err
	}
	if err := p.healed(); err != nil {
		return err
	}
	return p.askEverybody("after")
}

// others are all nodes but one.
func others(node int) (all []int) {
	for i := range nodes {
		if i != node {
			all = append(all, i)
		}
	}
	return all
}
