//go:build race

package node_test

// raced says that the race detector is on.
const raced = true
