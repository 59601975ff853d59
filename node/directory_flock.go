//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package node

import (
	"errors"
	"os"
	"syscall"
)

// lockDir locks a directory until the file is closed. goleveldb locks a file in it,
// which people remove who believe that it was left behind; this lock they cannot. A
// file system without such locks has goleveldb's alone.
func lockDir(dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		_ = d.Close()
		return nil, err
	}
	return d, nil
}
