"""Publishes with Eclipse paho what stands on its standard input, over TLS with a certificate of its own.

    paho_publisher.py PROTOCOL PORT CA CERTIFICATE KEY < messages

PROTOCOL is 5 or 3.1.1. Each line of input is a JSON object: topic, payload, and retain where it is to be retained. Every
message goes at QoS 1; once the broker has answered each, it prints how many were answered. Works with paho 1.6 and 2.
"""

import json
import sys

import paho.mqtt.client as mqtt

protocol, port, ca, certificate, key = sys.argv[1:]
versions = {"5": mqtt.MQTTv5, "3.1.1": mqtt.MQTTv311}
arguments = {"client_id": f"paho-{protocol}", "protocol": versions[protocol]}
if hasattr(mqtt, "CallbackAPIVersion"):
    arguments["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION2
client = mqtt.Client(**arguments)
client.tls_set(ca_certs=ca, certfile=certificate, keyfile=key)
client.max_queued_messages_set(0)
client.max_inflight_messages_set(100)
client.connect("localhost", int(port), keepalive=30)
client.loop_start()
sent = []
for line in sys.stdin:
    message = json.loads(line)
    sent.append(client.publish(message["topic"], message["payload"], qos=1, retain=message.get("retain", False)))
for message in sent:
    message.wait_for_publish(timeout=60)
print(sum(message.is_published() for message in sent), flush=True)
client.disconnect()
client.loop_stop()
