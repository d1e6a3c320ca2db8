"""How fast a broker that is not ours hands over what it kept (towards goal G1b): messages of one reading each wait in mosquitto for a lasting
session; from the start of the receiver to its last journal write counts for ours, to its end for `mosquitto_sub`, which throws the
messages away and is the yardstick, though not the broker's own ceiling. The broker runs on core 0, the receiver on core 1; by turns, each from a broker made anew.
Arguments: our program, number of messages, rounds. Needs mosquitto, mosquitto_pub and mosquitto_sub."""

import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

PROGRAM, MESSAGES, ROUNDS = pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3])
TOPIC = "meterlake/v1/e1/readings"
CONFIG = """[collect]
name = "drain"
[[mqtt]]
name = "mosquitto"
host = "127.0.0.1"
port = {port}
client_id = "drain"
topics = ["meterlake/v1/+/readings"]
maps = ["meterlake-json"]
receive_maximum = 65535
broker_stats = false
device_messages_per_s = 1000000
device_burst = 1000000
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def on_core(core, command, **more):
    return subprocess.Popen(["taskset", "-c", str(core), *map(str, command)], **more)


def cpu(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def broker(folder, port):
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"
        "max_inflight_messages 0\nset_tcp_nodelay true\nlog_dest none\n"
    )
    process = on_core(0, ["mosquitto", "-c", config], stderr=subprocess.DEVNULL)
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process
        except OSError:
            time.sleep(0.01)
    raise SystemExit("mosquitto does not listen")


def publish(port):
    text = "".join(
        '{"ts":"%s","energy_import_kwh":%d.%03d}\n'
        % (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_700_000_000 + 60 * n)), n // 1000, n % 1000)
        for n in range(MESSAGES)
    )
    command = ["mosquitto_pub", "-p", str(port), "-q", "1", "-t", TOPIC, "-l", "-V", "5"]
    subprocess.run(command, input=text.encode(), check=True)


def ours(folder, port):
    (folder / "meterlake.toml").write_text(CONFIG.format(port=port))
    status = folder / "journal" / "status.json"

    def start():
        command = [PROGRAM, "--config", "meterlake.toml", "--log", "error", "collect"]
        return on_core(1, command, cwd=folder)

    def figures(process):
        if process.poll() is not None:
            raise SystemExit("the collector ended")
        try:
            report = json.loads(status.read_text())
        except (OSError, ValueError):
            return {}
        return dict(report["brokers"][0][1]) if report["pid"] == process.pid and report["brokers"] else {}

    def stop(process):
        process.send_signal(signal.SIGTERM)
        if process.wait():
            raise SystemExit("the collector failed")

    process = start()
    while not figures(process).get("connected"):
        time.sleep(0.05)
    stop(process)
    publish(port)
    begun, process = time.time(), start()
    while figures(process).get("acknowledged", 0) < MESSAGES:
        time.sleep(0.02)
    # The report is written once a second; the journal's last sync tells when the work was done.
    done = max(path.stat().st_mtime for path in (folder / "journal").glob("*") if path.name != "status.json")
    spent = cpu(process)
    stop(process)
    answer = subprocess.run(
        [PROGRAM, "--config", "meterlake.toml", "query", "--committed", "--format", "csv", "SELECT count(*) FROM electricity_readings"],
        cwd=folder, check=True, capture_output=True, text=True,
    )
    if int(answer.stdout.split()[1]) != MESSAGES:
        raise SystemExit(f"{answer.stdout.split()[1]} rows of {MESSAGES}")
    return done - begun, spent


def yardstick(_folder, port):
    session = ["mosquitto_sub", "-p", str(port), "-V", "5", "-c", "-x", "3600", "-i", "yardstick", "-q", "1", "-t", "meterlake/v1/+/readings"]
    subprocess.run([*session, "-E"], check=True)
    publish(port)
    begun = time.time()
    process = on_core(1, [*session, "-C", MESSAGES], stdout=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    return time.time() - begun, usage.ru_utime + usage.ru_stime


seen = {yardstick: [], ours: []}
for _ in range(ROUNDS):
    for receiver, rows in seen.items():
        with tempfile.TemporaryDirectory(dir=PROGRAM.parent) as name:
            folder, port = pathlib.Path(name), free_port()
            process = broker(folder, port)
            try:
                rows.append(receiver(folder, port))
            finally:
                process.kill()
                process.wait()
print(f"{MESSAGES} messages kept by mosquitto, median of {ROUNDS}\n")
print(f"{'receiver':<28} {'messages/s':>11} {'CPU s':>7} {'of mosquitto_sub':>16}")
most = MESSAGES / statistics.median(wall for wall, _ in seen[yardstick])
for receiver, name in [(yardstick, "mosquitto_sub, thrown away"), (ours, "meterlake collect (D2)")]:
    rate = MESSAGES / statistics.median(wall for wall, _ in seen[receiver])
    spent = statistics.median(spent for _, spent in seen[receiver])
    print(f"{name:<28} {rate:>11.0f} {spent:>7.2f} {rate / most:>16.2f}")
