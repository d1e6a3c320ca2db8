"""Reads telegrams with dsmr-parser and says what they hold, in our words.

Each line of the input is `SPECIFICATION HEX`; each answer is `meter time channel value` lines and a line `end`.
"""

import sys
from decimal import Decimal

from dsmr_parser import telegram_specifications
from dsmr_parser.parsers import TelegramParser

WATER = (6, 7)
DIRECT = {
    "ELECTRICITY_USED_TARIFF_1": "energy_import_t1_kwh",
    "ELECTRICITY_USED_TARIFF_2": "energy_import_t2_kwh",
    "ELECTRICITY_IMPORTED_TOTAL": "energy_import_kwh",
    "ELECTRICITY_EXPORTED_TOTAL": "energy_export_kwh",
    **{f"INSTANTANEOUS_VOLTAGE_L{n}": f"voltage_l{n}_v" for n in (1, 2, 3)},
    **{f"INSTANTANEOUS_CURRENT_L{n}": f"current_l{n}_a" for n in (1, 2, 3)},
}
DERIVED = [
    ("energy_import_kwh", "ELECTRICITY_USED_TARIFF_1", "ELECTRICITY_USED_TARIFF_2", 1),
    ("energy_export_kwh", "ELECTRICITY_DELIVERED_TARIFF_1", "ELECTRICITY_DELIVERED_TARIFF_2", 1),
    ("power_kw", "CURRENT_ELECTRICITY_USAGE", "CURRENT_ELECTRICITY_DELIVERY", -1),
    *[
        (f"power_l{n}_kw", f"INSTANTANEOUS_ACTIVE_POWER_L{n}_POSITIVE", f"INSTANTANEOUS_ACTIVE_POWER_L{n}_NEGATIVE", -1)
        for n in (1, 2, 3)
    ],
]
IDENTIFIERS = ("EQUIPMENT_IDENTIFIER", "BELGIUM_EQUIPMENT_IDENTIFIER", "LUXEMBOURG_EQUIPMENT_IDENTIFIER")


def name(octets):
    return bytes.fromhex(octets).decode()


def say(meter, time, channel, value):
    print(meter, time.strftime("%Y-%m-%dT%H:%M:%SZ"), channel, format(Decimal(value), "f"))


def describe(telegram):
    values = {key: value for key, value in telegram}
    meter = next(name(values[key].value) for key in IDENTIFIERS if key in values)
    time = values["P1_MESSAGE_TIMESTAMP"].value
    for key, channel in DIRECT.items():
        if key in values:
            say(meter, time, channel, values[key].value)
    for channel, one, two, sign in DERIVED:
        if one in values and two in values:
            say(meter, time, channel, values[one].value + sign * values[two].value)
    for device in values.get("MBUS_DEVICES", []):
        parts = {key: part for key, part in device}
        kind = parts.get("MBUS_DEVICE_TYPE")
        if kind is not None and kind.value in WATER and "MBUS_METER_READING" in parts:
            reading = parts["MBUS_METER_READING"]
            say(name(parts["MBUS_EQUIPMENT_IDENTIFIER"].value), reading.datetime, "volume_m3", reading.value)


for line in sys.stdin:
    specification, payload = line.split()
    parser = TelegramParser(getattr(telegram_specifications, specification))
    try:
        describe(parser.parse(bytes.fromhex(payload).decode("ascii"), throw_ex=True))
    except Exception as error:  # Whatever it is, the test says so.
        print("refused", type(error).__name__)
    print("end", flush=True)
