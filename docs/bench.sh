#!/usr/bin/env bash
# Measures three servers on loopback, N=3, with `kith bench`: durable writes at
# quorum and reads at quorum, 128-byte values, 50 callers, with shared connections
# and with a connection for each caller. One JSON line a cell: what the bench says,
# CPU microseconds per operation of all servers together, and records per fsync.
#
#   docs/bench.sh [SECONDS]        KITH=path of the binary
set -euo pipefail
seconds=${1:-4}
. "$(dirname "$0")/three.sh"

# CPU time of all servers in microseconds.
spent() { cpu | awk '{t += $1} END {printf "%d", t * 10000}'; }
# Records and syncs of all servers.
disk() { "$kith" status --format json | python3 -c 'import json, sys; m = json.load(sys.stdin)["members"]; print(sum(x["records"] for x in m), sum(x["syncs"] for x in m))'; }
cell() { # label, arguments of the bench
	local label=$1; shift
	local before after d0 d1
	d0=$(disk) before=$(spent)
	"$kith" bench --warmup 0s --duration "${seconds}s" --keys 50000 --size 128 --concurrency 50 --format json "$@" >"$dir/cell.json"
	after=$(spent) d1=$(disk)
	python3 - "$label" "$before" "$after" $d0 $d1 "$dir/cell.json" <<'PY'
import json, sys
label, before, after, r0, s0, r1, s1, path = sys.argv[1:]
b = json.load(open(path))
ops = b["operations"]
b.update(label=label, server_cpu_us=round((int(after) - int(before)) / ops, 1))
if int(s1) > int(s0):
    b["records_per_sync"] = round((int(r1) - int(r0)) / (int(s1) - int(s0)), 1)
print(json.dumps(b))
PY
}
# Every key is there, and what the loading left to compact is compacted.
"$kith" bench --count 100000 --keys 50000 --size 128 --format json >/dev/null
"$kith" bench --duration 3s --keys 50000 --size 128 --format json >/dev/null
for connections in shared own; do
	cell "kith/write/$connections" --connections $connections
	cell "kith/read/$connections" --connections $connections --reads 1 --no-load
	cell "kith/read-one/$connections" --connections $connections --reads 1 --no-load --r one
done
