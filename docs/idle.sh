#!/usr/bin/env bash
# What three servers cost that have nothing to do, and nothing to repair: CPU of each
# one in percent of a core, gossip and the runtime among it, loopback traffic of all
# three by their number, and memory. One line.
#
#   docs/idle.sh [KEYS [SETTLE [SECONDS]]]        KITH=path of the binary
#
# SETTLE are the seconds after loading: each new key is looked at once for what can be
# forgotten, 2,048 records a second and node. The servers run in a network namespace
# of their own, so that only their traffic is counted.
set -euo pipefail
if [ -z "${KITH_IDLE_INSIDE:-}" ]; then
	KITH_IDLE_INSIDE=1 exec unshare --map-root-user --net "$0" "$@"
fi
keys=${1:-100000} settle=${2:-60} seconds=${3:-120}
ip link set lo up
. "$(dirname "$0")/three.sh"
"$kith" bench --reads 1 --count 1 --keys "$keys" --size 128 --format json >/dev/null
sleep "$settle"

sent() { awk '$1 == "lo:" {print $10}' /proc/net/dev; }
before=$(cpu) bytes=$(sent)
sleep "$seconds"
after=$(cpu) bytes=$(($(sent) - bytes))
echo "$keys keys, $seconds s: CPU of a core in percent, by node:" \
	"$(paste <(echo "$before") <(echo "$after") | awk -v s="$seconds" '{printf "%.2f ", ($2 - $1) / s}')" \
	"| KB/s a node: $(awk -v b="$bytes" -v s="$seconds" 'BEGIN {printf "%.2f", b / s / 1024 / 3}')" \
	"| MiB: $(for p in "${pids[@]}"; do awk '/^VmRSS/ {printf "%d ", $2 / 1024}' "/proc/$p/status"; done)"
