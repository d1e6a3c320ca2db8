"""Frames of meterlake.v1 as another library writes them: hexadecimal, a frame a line.

Usage: frames.py SCHEMA, the path of meterlake.proto.
"""

import importlib
import pathlib
import sys
import tempfile

from grpc_tools import protoc

schema = pathlib.Path(sys.argv[1]).resolve()
with tempfile.TemporaryDirectory() as out:
    code = protoc.main(["protoc", f"-I{schema.parent}", f"--python_out={out}", schema.name])
    if code != 0:
        sys.exit(f"protoc refuses {schema}")
    sys.path.insert(0, out)
    pb = importlib.import_module(schema.stem + "_pb2")

NOON_S = 1_795_262_400

# One reading, the topic names the meter; zero is said, what is absent is not.
frame = pb.Frame()
reading = frame.meters.add().readings.add(ts_s=NOON_S - 900, energy_import_kwh_e3=12_345_678, energy_export_kwh_e3=0)
reading.voltage_l1_v_e1 = 2_301
reading.power_kw_e3 = -1_500
print(frame.SerializeToString().hex())

# A day of quarters of an hour of two meters, with a gateway and a sequence.
frame = pb.Frame(gateway="gw-7", sequence=2**63 + 5)
for name in ("m1", "m2"):
    meter = frame.meters.add(meter=name, serial="S-" + name)
    for quarter in range(96):
        meter.readings.add(ts_us=(NOON_S - 86_400 + 900 * quarter) * 1_000_000, energy_import_kwh_e3=quarter * 999_999)
print(frame.SerializeToString().hex())

# Every field at its most, positive and negative.
for sign in (1, -1):
    frame = pb.Frame()
    meter = frame.meters.add(meter="all")
    for water in (False, True):
        reading = meter.readings.add(ts_s=NOON_S)
        for field in pb.Reading.DESCRIPTOR.fields:
            name = field.name
            is_water = any(word in name for word in ("volume", "flow", "pressure", "temperature", "battery"))
            if name in ("ts_us", "ts_s", "events") or is_water != water:
                continue
            digits = {"power_factor_e3": 4, "frequency_hz_e2": 5, "temperature_c_e1": 5, "battery_v_e3": 5}.get(name, 9)
            setattr(reading, name, sign * (10**digits - 1))
    print(frame.SerializeToString().hex())

# Events of every kind.
frame = pb.Frame()
frame.meters.add(meter="m1").readings.add(ts_s=NOON_S, events=range(1, 13))
print(frame.SerializeToString().hex())
