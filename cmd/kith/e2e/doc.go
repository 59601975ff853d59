// Package e2e tests the real binary: processes on loopback that are killed,
// paused and restarted. It has no code but its tests.
package e2e
