//go:build race

package sim

// raced says that the race detector is on, which wants every processor.
const raced = true
