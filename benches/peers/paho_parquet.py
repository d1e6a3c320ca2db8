"""MQTT messages into Parquet as one would write it in an afternoon: paho, a batch into one file, the file synced. paho
acknowledges by itself as soon as a message was handed over, so what waits for its batch is lost in a crash (D0).
Arguments: port, window. Ends by SIGTERM."""

import json
import os
import signal
import sys
import threading

import paho.mqtt.client as mqtt
import pyarrow as pa
import pyarrow.parquet as pq

PORT, WINDOW = int(sys.argv[1]), int(sys.argv[2])
BATCH = 10_000
waiting, lock, files = [], threading.Lock(), 0


def rows_of(message):
    meter = message.topic.split("/")[2]
    body = json.loads(message.payload)
    for reading in body.get("readings", [body]):
        yield {"meter": meter, **reading}


def flush():
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


def on_message(client, _, message):
    with lock:
        waiting.append(message)
        full = len(waiting) >= BATCH
    if full:
        flush()


def on_connect(client, *_):
    client.subscribe("meterlake/v1/+/readings", qos=1)


client = mqtt.Client(client_id="paho", clean_session=False)
client.on_message, client.on_connect = on_message, on_connect
client.connect("127.0.0.1", PORT)
client.loop_start()
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: done.set())
while not done.wait(0.2):
    pass
client.loop_stop()
flush()
