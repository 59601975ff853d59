package processes

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// insideEnv marks the process that runs in the sandbox.
const insideEnv = "KITH_SANDBOX"

// Inside says that this process runs in a sandbox, which a Cluster needs.
func Inside() bool { return os.Getenv(insideEnv) == "1" }

// Possible says what is missing for a sandbox: root, ip or nft.
func Possible() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is missing; on Debian: apt-get install iproute2 nftables", tool)
		}
	}
	return nil
}

// Sandbox runs this program once more, with the same arguments and some more
// variables, in network, mount and process namespaces of its own, and gives its
// exit status. Whatever it leaves behind, processes, namespaces or interfaces,
// the kernel clears away when it ends or this process does.
func Sandbox(env ...string) (status int, err error) {
	if err := Possible(); err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(append(os.Environ(), env...), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID,
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	// The signal comes when the thread ends that has started the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("run in new namespaces: %w", err)
	}
	return cmd.ProcessState.ExitCode(), nil
}

// Furnish gives the sandbox what programs in it need: names of network
// namespaces and a process table that nobody else sees, and loopback. To be
// called once, inside.
func Furnish() error {
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return run("", "ip", "link", "set", "lo", "up")
}
