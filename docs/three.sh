# Sourced by the other scripts here: three servers on loopback in a directory that goes
# with the script, and what can be read of them. KITH is the binary.
kith=${KITH:-./kith}
dir=$(mktemp -d)
pids=()
cleanup() {
	kill "${pids[@]}" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT
for i in 1 2 3; do
	how=(--join 127.0.0.1:7951)
	[ $i = 1 ] && how=(--expect 3)
	"$kith" server --name n$i --data "$dir/n$i" --listen 127.0.0.1:794$i --gossip 127.0.0.1:795$i "${how[@]}" 2>"$dir/n$i.log" &
	pids+=($!)
done
export KITH_ADDR=127.0.0.1:7941,127.0.0.1:7942,127.0.0.1:7943
"$kith" status --wait ready --timeout 60s >/dev/null

# CPU time of each server; the clock ticks a hundred times a second.
cpu() { for p in "${pids[@]}"; do awk '{print $14 + $15}' "/proc/$p/stat"; done; }
