package main

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

// A thread's timer slack is how late the kernel may end its sleeps, to wake for
// several at once; threads have that of the thread that made them.
const (
	prSetTimerSlack = 29 // of linux/prctl.h
	prGetTimerSlack = 30

	// slack of the threads of a server or a bench; the kernel's default is 50 us. No
	// timer of ours is finer: Go rounds shorter waits up to a millisecond too.
	slack = time.Millisecond
	// slackTried is set for the program that is begun anew: no third time.
	slackTried = "KITH_SLACK_TRIED"
)

// init keeps main on the process's first thread until relax was called. Only that one
// begins anew as what it was: with it goes what a supervisor has asked for, such as a
// signal when the supervisor itself ends.
func init() {
	if relaxed(os.Args) {
		runtime.LockOSThread()
	}
}

// relax has the process sleep less exactly. The monitor of the Go runtime sleeps 20 us
// at a time while requests come in bursts with syncs between them, and looks around
// for threads that stay in a system call. On a machine of two cores that was an eighth
// to a sixth of what a durable write costs; beside such servers, a fifth of what their
// clients cost. Its thread is there before main, and only a privileged process may
// change another thread's slack; so the program begins anew with a thread that has it,
// under the same process ID. What cannot be done is left: it costs time and nothing
// else. To be called once, from where main begins.
func relax() {
	defer runtime.UnlockOSThread() // see init
	_, tried := os.LookupEnv(slackTried)
	_ = os.Unsetenv(slackTried) // it is nobody else's business
	if have, ok := timerSlack(); tried || !ok || have >= slack || syscall.Gettid() != syscall.Getpid() {
		return
	}
	self, ok := program()
	if !ok || !setTimerSlack(slack) {
		return
	}
	// Go raises the bound of open files at the start, and takes that back for the
	// program that is begun.
	var files syscall.Rlimit
	known := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil
	_ = syscall.Exec(self, os.Args, append(os.Environ(), slackTried+"=yes")) // it returns only if it failed
	if known {
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files)
	}
}

// program is the path of this very program; false if another one stands there by now,
// as while servers are upgraded, or nothing can be known.
func program() (path string, ok bool) {
	path, err := os.Executable()
	if err != nil {
		return "", false
	}
	runs, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", false
	}
	stands, err := os.Stat(path)
	return path, err == nil && os.SameFile(runs, stands)
}

// timerSlack is that of this thread; false if it has none.
func timerSlack() (time.Duration, bool) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prGetTimerSlack, 0, 0)
	return time.Duration(n), errno == 0 && n > 0
}

// setTimerSlack changes that of this thread.
func setTimerSlack(to time.Duration) bool {
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, uintptr(to), 0)
	return errno == 0
}
