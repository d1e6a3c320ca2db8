"""How near the collector comes to what a broker that is not ours can hand over (goal G1b), message by message of one reading each at QoS 1.

`live`: a publisher sends as fast as mosquitto takes it while the receiver is connected. `kept`: the messages wait in a lasting session, and the
receiver drains it. The yardstick is a receiver of a few lines that takes blocks of bytes from the socket, looks only at the packet identifier of
each block's last message, and answers with acknowledgements that were made before: it costs next to nothing, so its rate is the broker's own.
Since a broker is quicker when it is answered seldom, one such receiver answers each block and another only every 2 ms; the quicker counts. mosquitto runs on core 0, receiver and publisher on core 1 (the publisher sends bytes made before); by turns, each from a broker made anew.
What counts is from the first byte published (live) or from the receiver's start (kept) to the last acknowledgement (yardstick) or the
journal's last sync (ours). Arguments: our program, number of messages, rounds."""

import json
import os
import pathlib
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

PROGRAM, MESSAGES, ROUNDS = pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3])
TOPIC = "meterlake/v1/e1/readings"
FILTER = "meterlake/v1/+/readings"
IDENTIFIERS = 65_535
DEADLINE_S = 300
CONFIG = """[collect]
name = "rate"
[[mqtt]]
name = "mosquitto"
host = "127.0.0.1"
port = {port}
client_id = "rate"
topics = ["%s"]
maps = ["meterlake-json"]
receive_maximum = 65535
broker_stats = false
device_messages_per_s = 1000000
device_burst = 1000000
""" % FILTER


def text(value):
    return struct.pack(">H", len(value)) + value.encode()


def packet(kind, body):
    length, size = b"", len(body)
    while True:
        size, low = divmod(size, 128)
        length += bytes([low | (128 if size else 0)])
        if not size:
            return bytes([kind]) + length + body


def connect(port, client_id, clean):
    """A socket that speaks MQTT 3.1.1, behind its CONNACK."""
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.settimeout(DEADLINE_S)
    link.sendall(packet(0x10, text("MQTT") + bytes([4, 2 if clean else 0]) + struct.pack(">H", 0) + text(client_id)))
    answer = take(link, 4)
    if answer[0] != 0x20 or answer[3]:
        raise SystemExit(f"mosquitto refused {client_id}: {answer.hex()}")
    return link


def take(link, size):
    found = b""
    while len(found) < size:
        more = link.recv(size - len(found))
        if not more:
            raise SystemExit("mosquitto closed the connection")
        found += more
    return found


def published():
    """All PUBLISH packets, of one size."""
    head = text(TOPIC)
    for n in range(MESSAGES):
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_700_000_000 + 60 * n))
        payload = b'{"ts":"%s","energy_import_kwh":%d.%03d}' % (at.encode(), 1_000_000 + n // 1000, n % 1000)
        yield packet(0x32, head + struct.pack(">H", n % IDENTIFIERS + 1) + payload)


BYTES = b"".join(published())
SIZE = len(BYTES) // MESSAGES
IDENTIFIER_AT = 2 + 2 + len(TOPIC)
ACKS = b"".join(packet(0x40, struct.pack(">H", n + 1)) for n in range(IDENTIFIERS))


def publish(port):
    """Sends all messages and waits for all acknowledgements."""
    link = connect(port, "publisher", clean=True)
    heard = threading.Thread(target=take_bytes, args=(link, 4 * MESSAGES), daemon=True)
    heard.start()
    link.sendall(BYTES)
    heard.join(DEADLINE_S)
    link.sendall(b"\xe0\x00")
    link.close()


def take_bytes(link, size):
    while size:
        more = len(link.recv(min(size, 1 << 20)))
        if not more:
            raise SystemExit("mosquitto closed the publisher's connection")
        size -= more


def publish_in_own_process(port):
    """On the receiver's core, out of the receiver's process."""
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {1})
        publish(port)
        os._exit(0)
    return child


def bare_receiver(port, pause_s):
    """Takes all messages and acknowledges each, in a process of its own that looks at the socket so often."""
    child = os.fork()
    if child:
        return child
    os.sched_setaffinity(0, {1})
    link = connect(port, "yardstick", clean=False)
    rest, heard = b"", 0
    while heard < MESSAGES:
        time.sleep(pause_s)
        rest += link.recv(1 << 23)
        whole = len(rest) // SIZE
        if not whole:
            continue
        first = heard % IDENTIFIERS
        (last,) = struct.unpack_from(">H", rest, (whole - 1) * SIZE + IDENTIFIER_AT)
        if rest[0] & 0xF6 != 0x32 or last != (heard + whole - 1) % IDENTIFIERS + 1:
            raise SystemExit(f"message {heard + whole}: identifier {last} is out of order")
        rest, heard = rest[whole * SIZE :], heard + whole
        answer = ACKS[4 * first : 4 * (first + whole)]
        link.sendall(answer + ACKS[: 4 * whole - len(answer)])
    link.close()
    os._exit(0)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def on_core(core, command, **more):
    return subprocess.Popen(["taskset", "-c", str(core), *map(str, command)], **more)


def cpu(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
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


class Bare:
    pause_s = 0.0

    def __init__(self, _folder, port):
        self.port = port
        link = connect(port, "yardstick", clean=False)
        link.sendall(packet(0x82, struct.pack(">H", 1) + text(FILTER) + b"\x01"))
        take(link, 5)
        link.sendall(b"\xe0\x00")
        link.close()

    def start(self):
        self.child = bare_receiver(self.port, self.pause_s)

    def finish(self):
        """When it was done and its processor time."""
        _, status, usage = os.wait4(self.child, 0)
        if status:
            raise SystemExit("the bare receiver failed")
        return time.time(), usage.ru_utime + usage.ru_stime


class BareAtOnce(Bare):
    name = "bare, each block (D0)"


class BareByPause(Bare):
    name = "bare, each 2 ms (D0)"
    pause_s = 0.002


class Ours:
    name = "meterlake collect (D2)"

    def __init__(self, folder, port):
        self.folder = folder
        (folder / "meterlake.toml").write_text(CONFIG.format(port=port))
        self.start()
        self.stop()

    def start(self):
        command = [PROGRAM, "--config", "meterlake.toml", "--log", "error", "collect"]
        self.process = on_core(1, command, cwd=self.folder)
        self.wait(lambda report: report.get("connected"))

    def wait(self, until):
        deadline = time.time() + DEADLINE_S
        while not until(self.figures()):
            if time.time() > deadline:
                raise SystemExit(f"the collector did not finish: {self.figures()}")
            time.sleep(0.02)

    def figures(self):
        if self.process.poll() is not None:
            raise SystemExit("the collector ended")
        try:
            report = json.loads((self.folder / "journal" / "status.json").read_text())
        except (OSError, ValueError):
            return {}
        return dict(report["brokers"][0][1]) if report["pid"] == self.process.pid and report["brokers"] else {}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait():
            raise SystemExit("the collector failed")

    def finish(self):
        self.wait(lambda report: report.get("acknowledged", 0) >= MESSAGES)
        # The report is written once a second; the journal's last sync tells when the work was done.
        done = max(path.stat().st_mtime for path in (self.folder / "journal").glob("*") if path.name != "status.json")
        spent = cpu(self.process.pid)
        self.stop()
        question = "SELECT count(*) FROM electricity_readings"
        command = [PROGRAM, "--config", "meterlake.toml", "query", "--committed", "--format", "csv", question]
        answer = subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True).stdout.split()[1]
        if int(answer) != MESSAGES:
            raise SystemExit(f"{answer} rows of {MESSAGES}")
        return done, spent


def live(receiver, port):
    receiver.start()
    begun = time.time()
    publisher = publish_in_own_process(port)
    done, spent = receiver.finish()
    os.waitpid(publisher, 0)
    return begun, done, spent


def kept(receiver, port):
    publish(port)
    begun = time.time()
    receiver.start()
    done, spent = receiver.finish()
    return begun, done, spent


def measure(way, receiver):
    """Messages a second, the receiver's processor time, and the share of its core that the broker used."""
    with tempfile.TemporaryDirectory(dir=PROGRAM.parent) as name:
        folder, port = pathlib.Path(name), free_port()
        process = broker(folder, port)
        try:
            subject = receiver(folder, port)
            before = cpu(process.pid)
            begun, done, spent = way(subject, port)
            busy = (cpu(process.pid) - before) / (done - begun) if way is live else None
            return MESSAGES / (done - begun), spent, busy
        finally:
            process.kill()
            process.wait()


print(f"{MESSAGES} messages of {SIZE} bytes at QoS 1 through mosquitto, median of {ROUNDS}\n")
print(f"{'way':<5} {'receiver':<23} {'messages/s':>11} {'CPU s':>7} {'broker busy':>12} {'of the bare':>12}", flush=True)
for way in (live, kept):
    seen = {receiver: [] for receiver in (BareAtOnce, BareByPause, Ours)}
    for _ in range(ROUNDS):
        for receiver, rows in seen.items():
            rows.append(measure(way, receiver))
    most = max(statistics.median(rate for rate, *_ in seen[bare]) for bare in (BareAtOnce, BareByPause))
    for receiver, rows in seen.items():
        rate, spent = (statistics.median(row[at] for row in rows) for at in (0, 1))
        busy = f"{statistics.median(row[2] for row in rows):.0%}" if way is live else "-"
        print(f"{way.__name__:<5} {receiver.name:<23} {rate:>11.0f} {spent:>7.2f} {busy:>12} {rate / most:>12.2f}")
