//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package node

import "os"

// lockDir leaves it to goleveldb to lock the directory.
func lockDir(string) (*os.File, error) { return nil, nil }
