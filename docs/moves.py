#!/usr/bin/env python3
"""Speed of slot moves, and latency of requests beside them, in one run.

    docs/moves.py busy|alone [KEYS [SIZE]]        KITH=path of the binary

Three servers on loopback, N=3, become four, seven (three join at the same moment) and
four again (three leave at once). busy: `kith bench` with 4 callers, half of them reads,
in windows of a second all the time; a line a change: medians over the windows of the
99th percentiles in milliseconds while slots move, beside those of idle times before and
after it, of which the longer one counts, as more servers share the same processors.
alone: nothing else goes on, and a line says how much was moved how fast. At the end the
seconds to write the same data through the cluster are printed, as a mark.
"""
import json, os, shutil, signal, statistics, subprocess, sys, tempfile, time

KITH = os.environ.get('KITH', './kith')
root, servers = tempfile.mkdtemp(), {}


def start(name, place):
    how = ['--expect', '3'] if name == 'n1' else ['--join', '127.0.0.1:7951,127.0.0.1:7953']
    with open(f'{root}/{name}.log', 'a') as log:
        servers[name] = subprocess.Popen(
            [KITH, 'server', '--name', name, '--data', f'{root}/{name}', '--listen', f'127.0.0.1:794{place}',
             '--gossip', f'127.0.0.1:795{place}', *how], stdout=log, stderr=log)


def kith(*words):
    here = ','.join(f'127.0.0.1:794{n[1:]}' for n, s in servers.items() if s.poll() is None)
    run = subprocess.run([KITH, *words], env=dict(os.environ, KITH_ADDR=here), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit(f'kith {" ".join(words)} ended with {run.returncode}: {run.stderr}')
    return run.stdout


def load(*words):
    return json.loads(kith('bench', '--keys', keys, '--size', size, '--format', 'json', *words))


def window():
    return load('--duration', '1s', '--warmup', '100ms', '--reads', '0.5', '--no-load', '--concurrency', '4')


def moved():
    return json.loads(kith('ring', 'moves', '--format', 'json'))['bytes']


def settled(active):
    """The members with a share are these, and nothing is left to move."""
    ring = json.loads(kith('ring', '--format', 'json'))
    moves = json.loads(kith('ring', 'moves', '--format', 'json'))
    return moves['queued'] + moves['running'] == 0 and ring['bounds']['slots'] == 0 and \
        sorted(m['name'] for m in ring['members'] if m['state'] == 'active' and m['homes']) == active and \
        all(m['state'] == 'active' or not m['homes'] for m in ring['members'])


def change(what, active, do):
    windows, bytes_before, began = [], moved(), time.time()
    do()
    while not settled(active):
        if busy:
            windows.append(window())
        else:
            time.sleep(0.2)
        if time.time() - began > 900:
            sys.exit(f'{what}: not done after 15 minutes')
    took, size_moved = time.time() - began, moved() - bytes_before
    line = f'{what}: {took:.0f} s, {size_moved / 1e6:.0f} MB, {size_moved / 1e6 / took:.1f} MB/s'
    for name in [n for n in servers if n not in active]:
        servers[name].wait()
    return line, windows or [None]


def joins(*names):
    return lambda: [start(name, int(name[1:])) for name in names]


def leaves(*names):
    return lambda: [kith('leave', name) for name in names]


def idle():
    time.sleep(5)
    return [window() for _ in range(10)] if busy else []


def middle(windows, kind, q='p99'):
    return statistics.median(w[kind][q] * 1e3 for w in windows)


signal.signal(signal.SIGTERM, lambda *_: sys.exit('stopped'))
busy = {'busy': True, 'alone': False}[sys.argv[1]]
keys = sys.argv[2] if len(sys.argv) > 2 else '200000'
size = sys.argv[3] if len(sys.argv) > 3 else '500'
try:
    for i in (1, 2, 3):
        start(f'n{i}', i)
    kith('status', '--wait', 'ready', '--timeout', '60s')
    began = time.time()
    load('--reads', '1', '--count', '1')
    written = time.time() - began
    before = idle()
    for what, active, do in [
            ('one joins', [1, 2, 3, 4], joins('n4')),
            ('three join at once', [1, 2, 3, 4, 5, 6, 7], joins('n5', 'n6', 'n7')),
            ('three leave at once', [4, 5, 6, 7], leaves('n1', 'n2', 'n3'))]:
        line, during = change(what, [f'n{i}' for i in active], do)
        after = idle()
        if busy:
            for kind in ('reads', 'writes'):
                quiet = max(middle(before, kind), middle(after, kind))
                line += f'; {kind} p99 {middle(during, kind):.2f} ms, idle {middle(before, kind):.2f} and {middle(after, kind):.2f} ms: {middle(during, kind) / quiet:.2f}'
            line += f'; operations that failed: {sum(sum(w["errors"].values()) for w in during)}'
        print(line, flush=True)
        before = after
    print(f'writing the data anew through the cluster took {written:.0f} s')
finally:
    for server in servers.values():
        server.kill()
        server.wait()
    shutil.rmtree(root)
