#!/usr/bin/env python3
"""Latency of requests while copies are repaired, over that of idle times in one run.

    docs/repair.py catch-up|refill|audit [ROUNDS [KEYS]]        KITH=path of the binary

Three servers on loopback, N=3, and `kith bench` with 4 callers, half of them reads, in
windows of a second. catch-up: a server is stopped, keys are overwritten twice as often
as there are keys, it is started again. refill: its directory is lost, and another one
takes its place. audit: all copies are audited again and again, while the scrub reads
the whole disk every minute instead of every day. A line a round: medians over the
windows of the 99th percentiles in milliseconds, and the ratios.
"""
import json, os, shutil, signal, statistics, subprocess, sys, tempfile, threading, time

KITH = os.environ.get('KITH', './kith')
ADDRESSES = ','.join(f'127.0.0.1:794{i}' for i in (1, 2, 3))
ENV = dict(os.environ, KITH_ADDR=ADDRESSES)
root, servers, third = tempfile.mkdtemp(), {}, 'n3'


def start(name, place, *more):
    how = ['--expect', '3'] if name == 'n1' else ['--join', '127.0.0.1:7951']
    with open(f'{root}/{name}.log', 'a') as log:
        servers[name] = subprocess.Popen(
            [KITH, 'server', '--name', name, '--data', f'{root}/{name}', '--listen', f'127.0.0.1:794{place}',
             '--gossip', f'127.0.0.1:795{place}', *how, *more], stdout=log, stderr=log)


def stop(name, how=signal.SIGTERM):
    servers[name].send_signal(how)
    servers.pop(name).wait()


def kith(*words):
    return subprocess.run([KITH, *words], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True).stdout


def member(name):
    members = json.loads(kith('status', '--format', 'json') or '{"members": []}')['members']
    return next((m for m in members if m['name'] == name), None)


def ready(name):
    if servers[name].poll() is not None:
        sys.exit(f'{name} has ended: ' + open(f'{root}/{name}.log').read()[-500:])
    m = member(name)
    return bool(m) and m['state'] == 'ready' and m['repair']['behind'] == 0 and m['repair']['lossy'] == 0


def load(*words):
    return json.loads(kith('bench', '--keys', keys, '--format', 'json', *words))


def window():
    return load('--duration', '1s', '--warmup', '100ms', '--reads', '0.5', '--no-load', '--concurrency', '4')


def until_ready(name):
    began, windows = time.time(), []
    while True:
        there = (member(name) or {}).get('reachable')
        w = window()
        if ready(name):
            break
        if there:
            windows.append(w)
        if time.time() - began > 600:
            sys.exit(f'{name} is not ready after ten minutes')
    return windows or [w], f"{member(name)['repair']['pulled_keys']} keys in {time.time() - began:.0f} s"


def catch_up(n):
    stop('n3')
    load('--count', str(2 * int(keys)), '--size', str(129 + n))
    time.sleep(3)
    start('n3', 3)
    return until_ready('n3')


def refill(n):
    global third
    lost = member(third)['id']
    stop(third, signal.SIGKILL)
    shutil.rmtree(f'{root}/{third}')
    time.sleep(3)
    third = f'in-place-{n}'
    start(third, 3, '--replace', lost)
    return until_ready(third)


def restart(*more):
    for i in (1, 2, 3):
        stop(f'n{i}')
        start(f'n{i}', i, *more)
        while not ready(f'n{i}'):
            time.sleep(0.2)


def audit(n):
    restart('--scrub-every', '1m')
    idle(2)
    done, over = 0, threading.Event()

    def again():
        nonlocal done
        while not over.is_set():
            kith('repair', '--wait')
            done += 1
    audits = threading.Thread(target=again)
    audits.start()
    windows = idle(10)
    over.set()
    audits.join()
    restart()
    return windows, f'{done} audits of all copies'


def idle(n):
    return [window() for _ in range(n)]


def middle(windows, kind):
    return statistics.median(w[kind]['p99'] * 1e3 for w in windows)


signal.signal(signal.SIGTERM, lambda *_: sys.exit('stopped'))
mode = {'catch-up': catch_up, 'refill': refill, 'audit': audit}[sys.argv[1]]
rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
keys = sys.argv[3] if len(sys.argv) > 3 else '60000'
try:
    for i in (1, 2, 3):
        start(f'n{i}', i)
    kith('status', '--wait', 'ready', '--timeout', '60s')
    load('--reads', '1', '--count', '1')
    idle(5)
    for n in range(rounds):
        before = idle(8)
        during, what = mode(n)
        time.sleep(3)
        quiet = before + idle(8)
        print(f'{sys.argv[1]}: {what};', *[
            f'{kind} p99 {middle(during, kind):.2f} ms, idle {middle(quiet, kind):.2f} ms: {middle(during, kind) / middle(quiet, kind):.2f};'
            for kind in ('reads', 'writes')], flush=True)
finally:
    for server in servers.values():
        server.kill()
        server.wait()
    shutil.rmtree(root)
