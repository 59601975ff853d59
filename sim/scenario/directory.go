package scenario

import (
	"strings"
	"sync"

	"github.com/kithdb/kith/ring"
)

// directory knows which node an ID is, and puts the nodes' names in place of IDs and
// addresses. A node has a new ID when its disk was lost. It is safe for concurrent
// use.
type directory struct {
	mu    sync.RWMutex // guards what follows
	ids   map[ring.NodeID]int
	pairs []string
	plain *strings.Replacer
}

func newDirectory() *directory {
	return &directory{ids: map[ring.NodeID]int{}, plain: strings.NewReplacer()}
}

// meet learns an ID of a node, and says whether it is new.
func (n *directory) meet(id ring.NodeID, addr string, node int, name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, known := n.ids[id]; known {
		return false
	}
	n.ids[id] = node
	full, short := id.String(), id.Short()
	n.pairs = append(n.pairs, name+" "+short, name, short+" "+name, name, full, name, short, name, addr, name)
	n.plain = strings.NewReplacer(n.pairs...)
	return true
}

// of is the node of an ID.
func (n *directory) of(id ring.NodeID) (node int, ok bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	node, ok = n.ids[id]
	return node, ok
}

// in puts names into a text.
func (n *directory) in(text string) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.plain.Replace(text)
}
