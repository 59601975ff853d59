package network_test

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// inBubble runs f in a bubble of its own. Channels that a pool kept from an older
// bubble must not be met there: two collections empty every pool.
func inBubble(t *testing.T, f func(t *testing.T)) {
	runtime.GC()
	runtime.GC()
	synctest.Test(t, f)
}
