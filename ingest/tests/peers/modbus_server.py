"""Two meters on one Modbus line, served by pymodbus: a peer that shares no code with ours.

Unit 1 is an Eastron SDM630 (floats in input registers), unit 2 a pulse counter (holding registers); unit 3 knows none of
the registers that it is asked for. pymodbus encodes and frames. Prints one line once it serves, until stdin closes:

    modbus_server.py tcp                        Modbus TCP; prints the port
    modbus_server.py rtu_over_tcp               RTU over TCP; prints the port
    modbus_server.py rtu DEVICE                 RTU on a serial line
    modbus_server.py dial_in HOST PORT PACKET   as a device server: calls, registers with this packet, passes RTU through
                                                both ways, and says `ping` whenever its line is quiet
"""

import asyncio
import sys

from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
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
    way = sys.argv[1]
    if way == "rtu":
        server = ModbusSerialServer(devices, framer=FramerType.RTU, port=sys.argv[2], baudrate=9600)
        await server.listen()
        print("serves", flush=True)
    else:
        framer = FramerType.SOCKET if way == "tcp" else FramerType.RTU
        server = ModbusTcpServer(devices, framer=framer, address=("127.0.0.1", 0))
        await server.listen()
        port = server.transport.sockets[0].getsockname()[1]
        if way == "dial_in":
            asyncio.ensure_future(device_server(port))
        print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.shutdown()


async def device_server(port):
    """A transparent device server in front of the RTU line at this port."""
    line_in, line_out = await asyncio.open_connection("127.0.0.1", port)
    caller_in, caller_out = await asyncio.open_connection(sys.argv[2], int(sys.argv[3]))
    caller_out.write(sys.argv[4].encode())

    async def questions():
        while data := await caller_in.read(300):
            line_out.write(data)

    async def answers():
        while True:
            try:
                data = await asyncio.wait_for(line_in.read(300), 0.05)
            except asyncio.TimeoutError:
                data = b"ping"
            caller_out.write(data)
            await caller_out.drain()

    await asyncio.gather(questions(), answers())


asyncio.run(main())
