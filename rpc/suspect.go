package rpc

import "time"

// A suspect's time to answer follows its latest answers, within these bounds.
const (
	suspectMin   = time.Second
	suspectTimes = 4 // the 95th percentile of its answers
)

// Suspect has a peer asked at once whether it is there, because somebody else
// has given it up. Its circuit opens unless it answers in time, within a second or
// so, or five where it is far away; a peer that does answer keeps it closed. It does
// not wait.
func (g *Guard) Suspect(to Peer) {
	if to.ID.IsZero() || g.Open(to.ID) {
		return
	}
	c := g.circuit(to)
	began := time.Now()
	_, p95 := c.latency.read()
	patience := max(suspectMin, min(suspectTimes*p95, probeTime))
	ping.Send(g.next, to, &pingMessage{}, began.Add(patience), CompleteFunc(func(_ []byte, err error) {
		if verdict(err, time.Since(began)) == peerSilent {
			c.fail(g, to, began, err, failureMax)
			return
		}
		c.note(g, to, began, err)
	}))
}

// Moved tells where a peer is now. While its circuit is open, Run looks for it
// there: nobody sends to a peer whose circuit is open, so the new address would
// not be learnt otherwise. It does not wait.
func (g *Guard) Moved(to Peer) {
	c := (*g.peers.Load())[to.ID]
	if c == nil || !c.open.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.to = to
}
