"""Polls devices each second with pymodbus and decodes 60 unsigned 32-bit registers of each, ten devices a connection.
Arguments: port, devices. Ends by SIGTERM."""

import asyncio
import os
import signal
import struct
import sys
import time

from pymodbus.client import AsyncModbusTcpClient

PORT, DEVICES = int(sys.argv[1]), int(sys.argv[2])
RANGES = [(0, 20), (40, 20), (80, 20), (200, 20), (240, 16), (400, 12), (600, 12)]


async def line(first):
    client = AsyncModbusTcpClient("127.0.0.1", port=PORT)
    await client.connect()
    due = time.time()
    while True:
        for unit in range(1, min(10, DEVICES - first) + 1):
            values = []
            for start, count in RANGES:
                answer = await client.read_holding_registers(start, count=count, device_id=unit)
                data = struct.pack(f">{count}H", *answer.registers)
                values += [raw / 1000 for raw in struct.unpack(f">{count // 2}I", data)]
        due += 1
        await asyncio.sleep(max(0, due - time.time()))


async def main():
    # The library catches the cancellation of a request in flight; there is nothing to tidy up.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    await asyncio.gather(*(line(first) for first in range(0, DEVICES, 10)))


asyncio.run(main())
