// Package e2e tests the real binary: processes on loopback that are killed,
// paused and restarted. It has no code but its tests, and what gives tests ports.
package e2e
