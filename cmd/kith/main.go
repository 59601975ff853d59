// Command kith is the server, the command line and the benchmark of a kith
// cluster. Each verb has a file of its own; the protocol and the data live in
// the packages below.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if relaxed(os.Args) {
		relax() // before anything is opened, and never within a test
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// relaxed says that the program was begun for what runs long, with thousands of requests
// a second: a server, or a bench beside servers.
func relaxed(args []string) bool {
	return len(args) > 1 && (args[1] == "server" || args[1] == "bench")
}

// run is the whole program, but for the process around it.
func run(args []string, in io.Reader, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	a := &app{in: in, out: out, errs: errs, env: os.LookupEnv}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.started { // before the verb itself
		err = &usageError{err}
	}
	return a.exit(ctx, err)
}
