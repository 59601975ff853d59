package node

import (
	"encoding/binary"

	"github.com/kithdb/kith/node/heal"
	"github.com/kithdb/kith/ring"
)

// healer watches for dead members; nil where nobody asked for it.
func (n *Node) healer() *heal.Healer {
	if !n.cfg.AutoHeal && n.cfg.OnMemberDead == "" {
		return nil
	}
	cfg := heal.Config{
		Self:   n.id,
		Rings:  n.topology,
		Away:   n.away,
		Addr:   n.lastAddr,
		After:  n.cfg.DeadAfter,
		Heal:   n.cfg.AutoHeal,
		Seed:   n.env.Seed ^ binary.BigEndian.Uint64(n.id[:8]),
		Logger: n.cfg.Logger,
	}
	if n.cfg.OnMemberDead != "" {
		cfg.Command = heal.Shell(n.cfg.OnMemberDead)
	}
	return heal.New(cfg)
}

// away says that neither gossip nor requests reach a member.
func (n *Node) away(id ring.NodeID) bool {
	p := n.members.View().Peer(id)
	return id != n.id && (p == nil || !p.Alive) && (p == nil || n.guard.Open(id))
}

func (n *Node) lastAddr(id ring.NodeID) string {
	if p := n.members.View().Peer(id); p != nil {
		return p.RPCAddr
	}
	return ""
}
