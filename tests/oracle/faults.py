"""What befalls a simulated fleet beyond what its simulator knows, and registers that its meters do not have.

    faults.py SENT CHANGED

Reads messages, `topic payload` a line, and writes as many with the same topics:

- some electricity meters also send a reactive register, a share of the active one (the registry says the same);
- some meters now and then send another meter's reading, or one with a bit flipped: it leaves and returns (V13);
- some meters now and then mark a reading as one of a test or of a faulty memory, with a value that may be right (V07), or
  send more digits than they have (V15);
- some registers jump by more than the connection can carry, and stay there (V14);
- some registers are set back without an exchange on file (V11).
"""

import json
import re
import sys
from collections import Counter
from fractions import Fraction

REGISTER = re.compile(rb'"(energy_import_kwh|volume_m3)":([0-9]+)(?:\.([0-9]{1,3}))?')


def share(number: int) -> Fraction | None:
    """Reactive energy of an electricity meter beside its active energy. `oracle.rs` has the same in its registry."""
    if number % 3 != 1 or number % 10 == 7:
        return None
    return Fraction(199, 200) if number == 13 else Fraction(number % 7 + 2, 10)


def shifted(letter: str, number: int, nth: int) -> int:
    """What is added to the nth register of a meter, in thousandths."""
    if letter == "W" and number % 30 == 21:
        return 60_000 if nth >= 1000 else 0
    if letter == "W" and number % 30 == 11:
        return -200_000 if nth >= 5000 else 0
    if number % 10 == 3 and nth % 401 == 300:
        return 100_000_000_000
    if mark(number, nth) == b"test_mode":
        return 7_000_000
    if number % 10 == 1:
        if nth % 197 == 150:
            return 5_000_000
        if nth % 331 == 300:
            return -3_000
    return 0


def mark(number: int, nth: int) -> bytes | None:
    """What a meter says of its nth reading."""
    if number % 10 != 3:
        return None
    return b"test_mode" if nth % 211 == 100 else b"memory_fault" if nth % 307 == 200 else None


def text(milli: int) -> bytes:
    return b"%d.%03d" % divmod(milli, 1000)


def main(sent: str, changed: str):
    seen: Counter[str] = Counter()
    with open(sent, "rb") as source, open(changed, "wb") as target:
        for line in source:
            topic, _, payload = line.rstrip(b"\n").partition(b" ")
            meter = topic.decode().split("/")[2]
            letter, number = meter[0], int(meter.split("-")[1])
            reactive = share(number) if letter == "E" else None

            def register(found: re.Match) -> bytes:
                name, whole, part = found.groups()
                seen[meter] += 1
                milli = int(whole) * 1000 + int((part or b"").ljust(3, b"0"))
                milli = max(0, milli + shifted(letter, number, seen[meter]))
                out = b'"%s":%s' % (name, text(milli))
                if reactive is not None and name == b"energy_import_kwh":
                    out += b',"reactive_import_kvarh":%s' % text(milli * reactive.numerator // reactive.denominator)
                said = mark(number, seen[meter])
                return out + b',"events":["%s"]' % said if said else out

            try:
                json.loads(payload)
                payload = REGISTER.sub(register, payload)
            except ValueError:  # a message that was broken on purpose
                pass
            target.write(topic + b" " + payload + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
