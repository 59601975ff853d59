package processes

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

const (
	// patience of one operation. What is refused without waiting takes a
	// small part of it; what waits for an answer that cannot come, all.
	patience = 3 * time.Second
	// keysPerQuestion are asked about.
	keysPerQuestion = 3
	// candidates for a question's keys: many times the partitions.
	candidates = 40 * partitions
)

// Question is what a story asks of a cluster: at which point, who coordinates
// for which keys, and which operation.
type Question struct{ When, Where, What string }

// String tells the question in one line.
func (q Question) String() string { return q.When + ", " + q.Where + ": " + q.What }

// answer is what an operation may come to.
type answer string

const (
	served  answer = "done"
	denied  answer = "refused at once"
	unsure  answer = "unknown"
	notDone answer = "not done" // refused or unknown: both are true
)

// task is one kind of operation and what has to come of it.
type task struct {
	what  string
	level client.Level
	put   bool
	want  answer
	limit time.Duration
}

func put(level client.Level, want answer) task {
	return task{"put at " + levelName(level), level, true, want, patience}
}

func get(level client.Level, want answer) task {
	return task{"get at " + levelName(level), level, false, want, patience}
}

// within gives the task another time.
func (t task) within(limit time.Duration) task {
	t.limit = limit
	return t
}

func levelName(level client.Level) string {
	switch level {
	case client.One:
		return "one"
	case client.Quorum:
		return "quorum"
	case client.All:
		return "all"
	}
	return fmt.Sprint(uint8(level))
}

// judge reads the answer off an operation.
func judge(op *sim.Op, t task) answer {
	switch took := op.Ended.Sub(op.Began); {
	case op.Outcome == sim.Done:
		return served
	case t.want == notDone:
		return notDone
	case op.Outcome == sim.Unknown:
		return unsure
	case op.Outcome == sim.Refused && took < t.limit/2:
		return denied
	case op.Outcome == sim.Refused:
		return "refused late" // waiting was of no use
	}
	return answer(op.Outcome.String())
}

// among says how many of some homes are in a group.
func among(homes, group []int) int {
	n := 0
	for _, h := range homes {
		if slices.Contains(group, h) {
			n++
		}
	}
	return n
}

// ask has a node coordinate the tasks for some keys whose homes are as wanted,
// and enters what came of them.
func (p *play) ask(when, where string, via int, homes func(homes []int) bool, tasks ...task) error {
	return p.askSome(keysPerQuestion, when, where, via, homes, tasks...)
}

// askSome is ask with another number of keys.
func (p *play) askSome(n int, when, where string, via int, homes func(homes []int) bool, tasks ...task) error {
	keys := p.keys(n, fmt.Sprintf("%s via %s", when, p.names[via]), homes)
	if len(keys) == 0 {
		return fmt.Errorf("%s, %s: no key has such homes", when, where)
	}
	for _, key := range keys {
		for _, t := range tasks {
			op := p.do(p.direct[via], p.names[via], t, key)
			q := Question{when, where, t.what}
			p.answered(q, judge(op, t), t.want, op)
		}
	}
	return nil
}

// answered enters the answer to a question, and what it was read off.
func (p *play) answered(q Question, got, want answer, of any) {
	if !slices.Contains(p.result.Answers[q], string(got)) {
		p.result.Answers[q] = append(p.result.Answers[q], string(got))
	}
	if got != want {
		p.wrong[q] = append(p.wrong[q], fmt.Sprintf("want %s: %v", want, of))
	}
	if p.asked[q] == 0 {
		p.order = append(p.order, q)
	}
	p.asked[q]++
}

// do is one operation of a question.
func (p *play) do(c *sim.Client, via string, t task, key string) *sim.Op {
	m := meta{via: via, level: levelName(t.level)}
	if t.put {
		return p.note(c.Put(key, nil, t.level, t.limit), m)
	}
	return p.note(c.Get(key, t.level, t.limit).Op, m)
}

// keys finds some with the wanted homes, spread over partitions.
func (p *play) keys(n int, name string, homes func(homes []int) bool) []string {
	var keys []string
	for range candidates {
		if len(keys) == n {
			break
		}
		p.named++
		if key := fmt.Sprintf("%s %d", name, p.named); homes(p.homes(key)) {
			keys = append(keys, key)
		}
	}
	return keys
}

// judged turns the questions into checks.
func (p *play) judged() {
	for _, q := range p.order {
		p.check(q.String(), len(p.wrong[q]) == 0, "%d asked: %s %s", p.asked[q],
			strings.Join(p.result.Answers[q], ", "), strings.Join(p.wrong[q], "; "))
	}
}
