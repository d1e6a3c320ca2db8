"""MQTT messages into Parquet as one would write it in an afternoon: paho with manual acknowledgements, a batch into one
file, the file synced, then the batch acknowledged. Arguments: port, window. Ends by SIGTERM."""

import json
import os
import signal
import sys
import threading
import time

import paho.mqtt.client as mqtt
import pyarrow as pa
import pyarrow.parquet as pq

PORT, WINDOW = int(sys.argv[1]), int(sys.argv[2])
BATCH = min(10_000, max(1, WINDOW // 2))
waiting, lock, files = [], threading.Lock(), 0


def rows_of(message):
    meter = message.topic.split("/")[2]
    body = json.loads(message.payload)
    for reading in body.get("readings", [body]):
        yield {"meter": meter, **reading}


def flush(client):
    global waiting, files
    with lock:
        batch, waiting = waiting, []
    if not batch:
        return
    table = pa.Table.from_pylist([row for message in batch for row in rows_of(message)])
    path = f"readings-{files}.parquet"
    files += 1
    pq.write_table(table, path, compression="zstd")
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    for message in batch:
        client.ack(message.mid, message.qos)


def on_message(client, _, message):
    with lock:
        waiting.append(message)
        full = len(waiting) >= BATCH
    if full:
        flush(client)


def on_connect(client, *_):
    client.subscribe("meterlake/v1/+/readings", qos=1)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="paho", manual_ack=True, protocol=mqtt.MQTTv5)
client.on_message, client.on_connect = on_message, on_connect
properties = mqtt.Properties(mqtt.PacketTypes.CONNECT)
properties.ReceiveMaximum = WINDOW
client.connect("127.0.0.1", PORT, properties=properties)
client.loop_start()
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: done.set())
while not done.wait(0.2):
    flush(client)
flush(client)
time.sleep(0.2)
client.loop_stop()
