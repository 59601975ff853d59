//go:build race

package quorum

// raced says that the race detector is on. Nothing here runs at the same time as
// anything else: under it, a few of the searches show as much, and .ci/run plays all of
// them without it.
const raced = true

// homesMost is the most homes of which all rings are gone through.
const homesMost = 4
