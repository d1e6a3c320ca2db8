"""An edge node of pysparkplug, driven line by line: `sparkplug_edge.py PORT EDGE BDSEQ`.

    birth           connects and is born, with the device e1
    data KWH        sends the register by its alias alone
    named KWH       sends the register by its name
    lose            counts a message that is never sent
    history KWH KWH two older values in one payload, an hour and half an hour old
    die             tells of the device's death

Each line is answered with `ok`. Whenever the node is asked to be born again it is, and says `rebirth`.
"""

import sys
import threading

from pysparkplug import Client, DataType, DBirth, DData, DDeath, Message, MessageType, Metric, NBirth, NDeath, QoS, Topic

GROUP, DEVICE, NOW = "plant", "e1", 1795255200000
PORT, EDGE, BDSEQ = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
REGISTER, VOLTAGE = "Energy/Import kWh", "Voltage/L1 V"

client = Client(client_id=f"edge-{EDGE}")
lock = threading.Lock()
state = {"seq": 0, "kwh": 0.0, "time": NOW}


def topic(kind, device=None):
    return Topic(message_type=kind, group_id=GROUP, edge_node_id=EDGE, device_id=device)


def bd_seq():
    return Metric(timestamp=NOW, name="bdSeq", datatype=DataType.INT64, value=BDSEQ)


def send(kind, payload, device=None, types=True):
    message = Message(topic=topic(kind, device), payload=payload, qos=QoS.AT_MOST_ONCE, retain=False)
    client.publish(message, include_dtypes=types)


def next_seq():
    seq = state["seq"]
    state["seq"] = (seq + 1) % 256
    return seq


def born():
    state["seq"] = 0
    rebirth = Metric(timestamp=NOW, name="Node Control/Rebirth", datatype=DataType.BOOLEAN, value=False)
    send(MessageType.NBIRTH, NBirth(timestamp=NOW, seq=next_seq(), metrics=(bd_seq(), rebirth)))
    metrics = (
        Metric(timestamp=state["time"], name=REGISTER, datatype=DataType.DOUBLE, value=state["kwh"], alias=7),
        Metric(timestamp=state["time"], name=VOLTAGE, datatype=DataType.FLOAT, value=230.1, alias=8),
    )
    send(MessageType.DBIRTH, DBirth(timestamp=state["time"], seq=next_seq(), metrics=metrics), DEVICE)


def commanded(_client, message):
    if any(metric.name == "Node Control/Rebirth" and metric.value is True for metric in message.payload.metrics):
        with lock:
            born()
        print("rebirth", flush=True)


def data(metrics, types=False):
    send(MessageType.DDATA, DData(timestamp=state["time"], seq=next_seq(), metrics=tuple(metrics)), DEVICE, types)


def register(kwh, time, name=None, historical=False):
    alias = None if name else 7
    return Metric(
        timestamp=time, name=name, alias=alias, datatype=DataType.DOUBLE, value=kwh, is_historical=historical
    )


def connect():
    connected = threading.Event()
    will = Message(
        topic=topic(MessageType.NDEATH),
        payload=NDeath(timestamp=NOW, bd_seq_metric=bd_seq()),
        qos=QoS.AT_LEAST_ONCE,
        retain=False,
    )
    client.set_will(will)
    client.subscribe(topic(MessageType.NCMD), QoS.AT_LEAST_ONCE, commanded)
    client.connect("127.0.0.1", port=PORT, callback=lambda _client: connected.set())
    assert connected.wait(30)


for line in sys.stdin:
    command, *words = line.split()
    numbers = [float(word) for word in words]
    if command == "birth":
        connect()
    with lock:
        state["time"] += 1000
        if command == "birth":
            born()
        elif command == "lose":
            next_seq()
        elif command == "history":
            times = (NOW - 3_600_000, NOW - 1_800_000)
            data(register(kwh, time, historical=True) for kwh, time in zip(numbers, times))
        elif command == "die":
            send(MessageType.DDEATH, DDeath(timestamp=state["time"], seq=next_seq()), DEVICE)
        else:
            state["kwh"] = numbers[0]
            named = command == "named"
            data([register(numbers[0], state["time"], REGISTER if named else None)], types=named)
    print("ok", flush=True)
