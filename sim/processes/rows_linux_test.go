package processes

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/sim"
)

// A machine falls silent while connections to it stand: no FIN, no reset, as when it
// loses power. Nobody asks it for anything, and all others call it unreachable within
// ten seconds. With KITH_NETNS=1 also on real sockets.
func TestFault11_HalfOpenConnectionsAreNoticedWithinTenSeconds(t *testing.T) {
	sim.Bubble(t, func(t *testing.T) {
		w, err := NewSimulated(11)
		if err != nil {
			t.Fatal(err)
		}
		silenced(t, w)
	})
	if t.Failed() || !real() {
		return
	}
	t.Parallel() // not before: virtual time has one processor for itself
	w, err := NewCluster(os.Getenv(binaryEnv), t.TempDir(), 11)
	if err != nil {
		t.Fatal(err)
	}
	silenced(t, w)
}

// silenced cuts one node from all others and closes the world.
func silenced(t *testing.T, w World) {
	defer func() {
		if t.Failed() {
			t.Log(w.Log())
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	const gone = 2
	others := []int{0, 1, 3, 4}
	var asked []*sim.Client
	for node := range nodes {
		cl, err := w.Dial(nil, []client.Option{client.Direct()}, node)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		asked = append(asked, cl)
	}
	for _, node := range others {
		awaitSees(t, asked[node], w.Names()[gone], true, time.Minute)
	}
	rest(context.Background(), 10*time.Second) // connections stand and are idle
	began := time.Now()
	if err := w.Partition([]int{gone}, others); err != nil {
		t.Fatal(err)
	}
	for _, node := range others {
		awaitSees(t, asked[node], w.Names()[gone], false, 10*time.Second-time.Since(began))
	}
	t.Logf("%s: all have noticed after %v", w.Kind(), time.Since(began))
	if err := w.Heal(); err != nil {
		t.Fatal(err)
	}
	for _, node := range others {
		awaitSees(t, asked[node], w.Names()[gone], true, time.Minute)
	}
}

// awaitSees waits until a node calls another one reachable, or no more.
func awaitSees(t *testing.T, asked *sim.Client, name string, want bool, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		status, err := asked.Client.Status(ctx)
		if err == nil {
			for _, m := range status.Members {
				if m.Name == name && m.Reachable == want {
					return
				}
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("%s is not seen as reachable=%v: %v", name, want, err)
		}
		rest(ctx, 50*time.Millisecond)
	}
}
