package heal

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"
)

const (
	// commandMax is how long a command may run before it is killed.
	commandMax = time.Minute
	// commandGrace is how much longer what it has started may hold its output.
	commandGrace = 5 * time.Second
	// outputMax is how much of what it says is kept, in bytes.
	outputMax = 1 << 10
)

// Shell gives a Command that has a shell run the given words, with what is known of the
// death in its environment:
//
//	KITH_MEMBER_ID    the member's ID, 32 hexadecimal digits
//	KITH_MEMBER_NAME  its name, which may be empty
//	KITH_MEMBER_ZONE  its zone, which may be empty
//	KITH_MEMBER_ADDR  its last HOST:PORT for clients, if it is known
//	KITH_DEAD_SINCE   when it could be reached last, as RFC 3339 has it
//	KITH_FIRST        1 if no node with a lower ID can be reached from here, else 0
//
// The shell is killed after a minute. A status that is not 0 is an error that ends with
// what the command has said.
func Shell(words string) func(context.Context, Death) error {
	return func(ctx context.Context, d Death) error {
		ctx, cancel := context.WithTimeout(ctx, commandMax)
		defer cancel()
		first := "0"
		if d.First {
			first = "1"
		}
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", words)
		cmd.WaitDelay = commandGrace
		cmd.Env = append(os.Environ(),
			"KITH_MEMBER_ID="+d.Member.ID.String(),
			"KITH_MEMBER_NAME="+d.Member.Name,
			"KITH_MEMBER_ZONE="+d.Member.Zone,
			"KITH_MEMBER_ADDR="+d.Addr,
			"KITH_DEAD_SINCE="+d.Since.UTC().Format(time.RFC3339),
			"KITH_FIRST="+first)
		said := tail{max: outputMax}
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%w: %s", err, bytes.TrimSpace(said.bytes))
		}
		return nil
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	max   int
	bytes []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.bytes = append(t.bytes, b...)
	if over := len(t.bytes) - t.max; over > 0 {
		t.bytes = append(t.bytes[:0], t.bytes[over:]...)
	}
	return len(b), nil
}
