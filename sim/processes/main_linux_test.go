package processes

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

const binaryEnv = "KITH_STORY_BINARY"

// real says that stories are also played on processes: with KITH_NETNS=1, which
// needs root, ip and nft.
func real() bool { return os.Getenv("KITH_NETNS") == "1" }

func TestMain(m *testing.M) {
	status, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "KITH_NETNS=1:", err)
		status = 1
	}
	os.Exit(status)
}

func runAll(m *testing.M) (status int, err error) {
	switch {
	case !real():
		status = m.Run()
	case !Inside():
		return outside()
	default:
		if err := Furnish(); err != nil {
			return 1, err
		}
		// Stories wait most of the time: all at once, whatever the machine.
		if err := flag.Set("test.parallel", fmt.Sprint(len(Stories()))); err != nil {
			return 1, err
		}
		status = m.Run()
	}
	if status == 0 {
		err = goleak.Find()
	}
	return status, err
}

// outside builds the binary and runs the tests again in the sandbox.
func outside() (status int, err error) {
	if err := Possible(); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "kith-stories")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "kith")
	build := exec.Command("go", "build", "-o", binary, "github.com/kithdb/kith/cmd/kith")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("building kith: %w\n%s", err, out)
	}
	return Sandbox(binaryEnv+"="+binary, "TMPDIR="+dir)
}
