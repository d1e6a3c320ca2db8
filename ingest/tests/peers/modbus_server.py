"""Two meters on one Modbus TCP line, served by pymodbus: a peer that shares no code with ours.

Unit 1 is an Eastron SDM630 (floats in input registers), unit 2 a pulse counter (holding registers); unit 3 knows none of
the registers that it is asked for. pymodbus encodes the values. Prints the port on one line and serves until stdin closes.
"""

import asyncio
import sys

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

# By address: what an SDM630 with a load on three phases says. Registers between them read zero.
SDM630 = {
    0x0000: 230.25,
    0x0002: 231.5,
    0x0004: 229.75,
    0x0006: 4.125,
    0x0034: 2851.0,
    0x003E: 0.96875,
    0x0046: 49.98,
    0x0048: 12345.678,
    0x004A: 1.5,
    0x004C: 678.25,
}


def floats(values, last):
    for address in range(0, last, 2):
        yield SimData(address, values=values.get(address, 0.0), datatype=DataType.FLOAT32)


def registers(*words):
    return SimData(0, values=list(words), datatype=DataType.REGISTERS)


def blocks(holding, inputs):
    """Coils and discrete inputs, then holding and input registers: four blocks, as old devices have."""
    bits = SimData(0, values=False, datatype=DataType.BITS)
    return ([bits], [bits], holding, inputs)


async def main():
    nothing = registers(0)
    devices = [
        SimDevice(id=1, simdata=blocks([nothing], list(floats(SDM630, 0x50)))),
        # 123,456 pulses, 3.612 V, -1.2 °C, bits 0 (leak) and 4 (low battery).
        SimDevice(id=2, simdata=blocks([registers(0x0001, 0xE240, 3612, 0xFFF4, 0x0011)], [nothing])),
        SimDevice(id=3, simdata=blocks([nothing], [nothing])),
    ]
    server = ModbusTcpServer(devices, address=("127.0.0.1", 0))
    await server.listen()
    print(server.transport.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.shutdown()


asyncio.run(main())
