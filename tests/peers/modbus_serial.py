"""An Eastron SDM630 (unit 1) and a pulse counter (unit 2) on a serial line, served by pymodbus over a pair of
pseudo-terminals.

Prints the device on one line and serves until stdin closes.
"""

import asyncio
import os
import sys
import threading
import tty

from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

SDM630 = {0x0000: 230.25, 0x0002: 231.5, 0x0004: 229.75, 0x0034: 2851.0, 0x0046: 49.98, 0x0048: 12345.678}


def floats(values, last):
    for address in range(0, last, 2):
        yield SimData(address, values=values.get(address, 0.0), datatype=DataType.FLOAT32)


def registers(*words):
    return SimData(0, values=list(words), datatype=DataType.REGISTERS)


def blocks(holding, inputs):
    bits = SimData(0, values=False, datatype=DataType.BITS)
    return ([bits], [bits], holding, inputs)


def copy(source, target):
    try:
        while data := os.read(source, 512):
            os.write(target, data)
    except OSError:
        pass


def line():
    """Two serial devices that are the two ends of one wire."""
    (a, a_device), (b, b_device) = os.openpty(), os.openpty()
    for end in (a, b, a_device, b_device):
        tty.setraw(end)
    for ends in ((a, b), (b, a)):
        threading.Thread(target=copy, args=ends, daemon=True).start()
    return os.ttyname(a_device), os.ttyname(b_device)


async def main():
    nothing = registers(0)
    devices = [
        SimDevice(id=1, simdata=blocks([nothing], list(floats(SDM630, 0x50)))),
        SimDevice(id=2, simdata=blocks([registers(0x0001, 0xE240, 3612, 0xFFF4, 0x0011)], [nothing])),
    ]
    ours, theirs = line()
    server = ModbusSerialServer(devices, framer=FramerType.RTU, port=ours, baudrate=19200)
    await server.listen()
    print(theirs, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.shutdown()


asyncio.run(main())
