//go:build race

package antientropy

// raced says that the race detector is on.
const raced = true
