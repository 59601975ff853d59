// Package processes plays stories of failure on a cluster of real kith server
// processes, each in a network namespace of its own, and the same stories on the
// simulator, so that the two can be held against each other.
//
// It owns the World that a story is played on, with its two kinds (Simulated and
// Cluster), the five stories, the questions that a story asks while something is
// cut, down or paused, and the comparison of two results. Real traffic stays
// inside the sandbox: private network, mount and process namespaces that the
// kernel clears away with the last process, however the run ends.
//
// It promises that both worlds are asked the same questions by the same clients
// and held to the same oracle, sim.Check. It does not promise the same timing:
// each world only has to notice and to heal within the same bounds.
//
// The simulated half needs nothing. Real processes need Linux, root, ip and nft.
package processes
