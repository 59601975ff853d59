package node_test

import (
	"errors"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// A cluster of three grows to five and shrinks to three again while clients write and
// read at quorum: nothing acknowledged is lost, no read goes back, and nothing is
// refused.
func TestAClusterGrowsAndShrinksUnderLoad(t *testing.T) {
	inBubble(t, 1, 16, 3, func(b *bubble) {
		b.found(3)
		c := b.check(24, 40*time.Millisecond, b.boxes[:3]...)
		time.Sleep(time.Second)
		for range 2 {
			b.box().start()
		}
		b.settled(b.boxes...)
		for _, x := range b.boxes[3:] {
			b.boxes[0].must(api.ChangeRequest{Verb: api.VerbLeave, Member: x.name})
		}
		for _, x := range b.boxes[3:] {
			<-x.node.Done()
			if err := x.node.Err(); !errors.Is(err, ring.ErrBanned) {
				t.Errorf("%s, which has left, ends with %v", x.name, err)
			}
		}
		b.settled(b.boxes[:3]...)
		c.end()
		c.undisturbed()
	})
}
