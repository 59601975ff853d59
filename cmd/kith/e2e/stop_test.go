package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStopTellsOfAFailedDisk: a server that is told to stop while its disk fails
// says what is wrong with it, and does not end as if all had been well.
func TestStopTellsOfAFailedDisk(t *testing.T) {
	c := newCluster(t, 1, "--replicas", "1")
	c.startAll()
	s, cl, value := c.servers[0], c.dial(0), make([]byte, 1<<20)
	if err := os.Rename(filepath.Join(s.data, "db"), filepath.Join(s.data, "gone")); err != nil {
		t.Fatal(err)
	}
	// Writes go on in the files that are open, until a new one is needed.
	until(t, "the disk has failed", time.Minute, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := cl.Put(ctx, []byte("large"), value)
		return err != nil
	})
	c.signal(0, syscall.SIGTERM)
	<-s.exited
	log, err := os.ReadFile(filepath.Join(c.dir, s.name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(string(log), "error: stopping: storage failed: ") {
		t.Errorf("exit status %d, and the log does not say why", code)
	}
}
