//go:build !race

package quorum

const raced = false

// homesMost is the most homes of which all rings are gone through.
const homesMost = 5
