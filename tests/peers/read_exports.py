"""Reads an export of bills as others do, and says what it finds, as JSON: read_exports.py FORMAT FILE.

CSV, Parquet and JSON are read by DuckDB, NEM12 by aemo-mdff-reader, Green Button by greenbutton-objects. The two XML formats are
held, besides, against the order, number and values of elements that their schemas state, as far as they are used here: ESPI by
NAESB's espi.xsd 4.0, MeterReadings by IEC 61968-9's MeterReadings.xsd of 2011.
"""

import datetime
import json
import re
import sys
import xml.etree.ElementTree as ET

INTEGER = r"-?[0-9]+"
INT48 = r"-?[0-9]{1,15}"
UNSIGNED = r"[0-9]+"
DECIMAL = r"-?[0-9]+(\.[0-9]+)?"
INSTANT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
QUALITIES = "0|7|8|9|10|11|12|13|14|15|16|17|18|19"
UNITS = "38|42|61|63|71|72|73"
PERIOD = [("duration", 1, 1, UNSIGNED), ("start", 1, 1, INTEGER)]
MEASURE = [
    ("powerOfTenMultiplier", 0, 1, "-12|-9|-6|-3|-2|-1|0|1|2|3|6|9|12"),
    ("timeStamp", 0, 1, INTEGER),
    ("uom", 0, 1, UNITS),
    ("value", 0, 1, INT48),
]

# By element: its children in order, each with how often it may stand there and what its text may be. No list: text only.
ESPI = {
    "UsagePoint": [("roleFlags", 0, 1, "([0-9A-F]{2}){0,2}"), ("ServiceCategory", 0, 1, None), ("status", 0, 1, "[0-9]{1,3}")],
    "ServiceCategory": [("kind", 1, 1, "0|1|2|3|4|5|6|7|8|9")],
    "LocalTimeParameters": [
        ("dstEndRule", 1, 1, "[0-9A-F]{8}"),
        ("dstOffset", 1, 1, INTEGER),
        ("dstStartRule", 1, 1, "[0-9A-F]{8}"),
        ("tzOffset", 1, 1, INTEGER),
    ],
    "MeterReading": [],
    "ReadingType": [
        ("accumulationBehaviour", 0, 1, "0|1|3|4|6|9|12"),
        ("commodity", 0, 1, "[0-9]|10|11|12|13"),
        ("consumptionTier", 0, 1, INTEGER),
        ("currency", 0, 1, UNSIGNED),
        ("dataQualifier", 0, 1, "0|2|8|9|12"),
        ("defaultQuality", 0, 1, QUALITIES),
        ("flowDirection", 0, 1, "0|1|19"),
        ("intervalLength", 0, 1, UNSIGNED),
        ("kind", 0, 1, "0|8|12|37|58"),
        ("phase", 0, 1, UNSIGNED),
        ("powerOfTenMultiplier", 0, 1, "-12|-9|-6|-3|-2|-1|0|1|2|3|6|9|12"),
        ("timeAttribute", 0, 1, UNSIGNED),
        ("tou", 0, 1, INTEGER),
        ("uom", 0, 1, UNITS),
    ],
    "IntervalBlock": [("interval", 0, 1, None), ("IntervalReading", 0, None, None)],
    "interval": PERIOD,
    "IntervalReading": [("cost", 0, 1, INT48), ("ReadingQuality", 0, None, None), ("timePeriod", 0, 1, None), ("value", 0, 1, INT48)],
    "ReadingQuality": [("quality", 1, 1, QUALITIES)],
    "timePeriod": PERIOD,
    "UsageSummary": [
        ("billingPeriod", 0, 1, None),
        ("billLastPeriod", 0, 1, INT48),
        ("billToDate", 0, 1, INT48),
        ("costAdditionalLastPeriod", 0, 1, INT48),
        ("currency", 0, 1, UNSIGNED),
        ("overallConsumptionLastPeriod", 0, 1, None),
        ("peakDemand", 0, 1, None),
        ("qualityOfReading", 0, 1, QUALITIES),
        ("statusTimeStamp", 1, 1, INTEGER),
        ("commodity", 0, 1, "[0-9]|10|11|12|13"),
    ],
    "billingPeriod": PERIOD,
    "overallConsumptionLastPeriod": MEASURE,
    "peakDemand": MEASURE,
}
REASONS = "billing|demandReset|inquiry|installation|loadManagement|loadResearch|moveIn|moveOut|other|removal|serviceConnect|serviceDisconnect"
CIM = {
    "MeterReadings": [("MeterReading", 0, None, None), ("ReadingQualityType", 0, None, None), ("ReadingType", 0, None, None)],
    "MeterReading": [
        ("IntervalBlocks", 0, None, None),
        ("Meter", 0, 1, None),
        ("Readings", 0, None, None),
        ("UsagePoint", 0, 1, None),
    ],
    "IntervalBlocks": [("IntervalReadings", 0, None, None), ("ReadingType", 1, 1, "")],
    "IntervalReadings": [
        ("source", 0, 1, ".*"),
        ("timeStamp", 0, 1, INSTANT),
        ("value", 0, 1, DECIMAL),
        ("ReadingQualities", 0, None, None),
        ("timePeriod", 0, 1, None),
    ],
    "Readings": [
        ("reason", 0, 1, REASONS),
        ("reportedDateTime", 0, 1, INSTANT),
        ("source", 0, 1, ".*"),
        ("timeStamp", 0, 1, INSTANT),
        ("value", 0, 1, DECIMAL),
        ("ReadingQualities", 0, None, None),
        ("ReadingType", 1, 1, ""),
        ("timePeriod", 0, 1, None),
    ],
    "ReadingQualities": [("comment", 0, 1, ".*"), ("source", 0, 1, ".*"), ("timeStamp", 0, 1, INSTANT), ("ReadingQualityType", 1, 1, "")],
    "timePeriod": [("end", 0, 1, INSTANT), ("start", 0, 1, INSTANT)],
    "Meter": [("mRID", 0, 1, ".+")],
    "UsagePoint": [("mRID", 0, 1, ".+")],
}
ATOM = "{http://www.w3.org/2005/Atom}"
NAESB = "{http://naesb.org/espi}"
METER = "{http://iec.ch/TC57/2011/MeterReadings#}"
MESSAGE = "{http://iec.ch/TC57/2011/schema/message}"


def conform(element, space, rules):
    """Fails unless the element's children are those of the rules, in their order."""
    name = element.tag.removeprefix(space)
    left = list(element)
    for child, least, most, text in rules[name]:
        count = 0
        while left and left[0].tag == space + child and (most is None or count < most):
            found = left.pop(0)
            if text is None:
                conform(found, space, rules)
            else:
                assert len(found) == 0 and re.fullmatch(text, found.text or ""), f"{name}/{child}: {found.text!r}"
            count += 1
        assert count >= least, f"{name} has no {child}"
    assert not left, f"{name} may not hold {left[0].tag} there"


def one(element, path):
    found = element.findall(path)
    assert len(found) == 1, f"{element.tag} has {len(found)} of {path}"
    return found[0]


def rows(path, source):
    import duckdb

    reader = {"csv": "read_csv('{}', all_varchar = true)", "parquet": "read_parquet('{}')"}.get(source)
    if reader is None:
        asked = f"SELECT unnest(items, recursive := true) FROM read_json('{path}', maximum_object_size = 100000000)"
    else:
        asked = f"SELECT * FROM {reader.format(path)}"
    # Sums by DuckDB's own decimals; JSON and CSV carry them as text.
    amount = "CAST({} AS DECIMAL(18,6))"
    sums = ", ".join(f"CAST(sum({amount.format(c)}) AS VARCHAR)" for c in ("value", "delta", "estimated", "end_register"))
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    db.execute(f"CREATE TABLE items AS {asked}")
    count, ids, first, *sums = db.execute(
        f"""SELECT count(*), list(item ORDER BY item), CAST(epoch_us(CAST(min("start") AS TIMESTAMPTZ)) AS BIGINT), {sums} FROM items"""
    ).fetchone()
    types = {name: kind for name, kind, *_ in db.execute("DESCRIBE items").fetchall()}
    kinds = [types[name] for name in ("list", "first_day", "start", "value")] if source == "parquet" else []
    return {"rows": count, "items": ids, "start": first, "sums": sums, "types": kinds}


def nem12(path):
    import aemo_mdff_reader as mdff
    from aemo_mdff_reader import spec

    streams = {}
    for reading in mdff.parse(path):
        assert reading.interval_length in spec.ALLOWED_INTERVAL_LENGTHS
        assert reading.uom in spec.UOM_VALUES
        stream = streams.setdefault(f"{reading.nmi} {reading.nmi_suffix}", [])
        # Market time is UTC+10.
        start = reading.interval_start.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=10)))
        stream.append([int(start.timestamp()), f"{reading.value:.3f}", reading.quality_method])
    # The flags of days whose quality varies: each interval once.
    lines = [line.rstrip("\n").split(",") for line in open(path)]
    assert lines[0][0] == "100" and lines[-1] == ["900"]
    flags = {**spec.QUALITY_FLAGS, "N": "null data"}
    covered, due = None, 0
    for line in lines:
        if line[0] == "200":
            assert len(line) == 10 and len(line[1]) == 10 and len(line[6]) <= 12, line
            due = 1440 // int(line[8])
        elif line[0] == "300":
            assert covered in (None, due), "an interval without a flag"
            assert len(line) == due + 7, line
            covered = 0 if line[due + 2] == "V" else None
            said = line[due + 2 : due + 5]
        elif line[0] == "400":
            assert int(line[1]) == covered + 1 and len(line) == 6, line
            covered = int(line[2])
            said = line[3:]
        if line[0] in ("300", "400"):
            flag, reason, words = said
            assert flag[0] in flags
            assert (len(flag) == 3) == (flag[0] in "ESF"), said
            assert reason == "" or int(reason) in spec.REASON_CODES, said
            assert (reason != "") == (flag[0] in "SFN"), said
            assert words != "" or reason != "0", said
    assert covered in (None, due), "an interval without a flag"
    header = mdff.parse_header(path)
    return {"streams": streams, "from": header.from_participant, "to": header.to_participant}


def espi(path):
    from greenbutton_objects import parse

    feed = ET.parse(path).getroot()
    places, kinds = set(), []
    for entry in feed.findall(ATOM + "entry"):
        place = one(entry, ATOM + "link[@rel='self']").get("href")
        assert place not in places, f"{place} twice"
        places.add(place)
        assert re.fullmatch(r"urn:uuid:[a-f0-9]{8}(-[a-f0-9]{4}){3}-[a-f0-9]{12}", one(entry, ATOM + "id").text)
        content = one(entry, ATOM + "content")
        assert len(content) == 1
        conform(content[0], NAESB, ESPI)
        kinds.append(content[0].tag.removeprefix(NAESB))
    # What an entry is related to is there: itself, or what is below it.
    for link in feed.iter(ATOM + "link"):
        if link.get("rel") == "related":
            href = link.get("href")
            assert any(p == href or p.startswith(href + "/") for p in places), f"{href} leads nowhere"
    summaries = []
    for entry in feed.findall(ATOM + "entry"):
        for summary in entry.iter(NAESB + "UsageSummary"):
            measure = [m for m in summary if m.find(NAESB + "uom") is not None][0]
            summaries.append([one(entry, ATOM + "title").text, int(measure.find(NAESB + "value").text)])
    # greenbutton-objects knows no volume, so water is taken out before it reads.
    for entry in list(feed):
        place = entry.find(ATOM + "link[@rel='self']")
        if place is not None and ("volume_m3" in place.get("href") or "volume_m3" in (entry.findtext(ATOM + "title") or "")):
            feed.remove(entry)
    electric = path + ".electric"
    ET.ElementTree(feed).write(electric)
    points = []
    for point in parse.parse_feed(electric):
        readings = {}
        for reading in point.meterReadings:
            readings[reading.title] = {
                "unit": reading.readingType.uom.name,
                "power": reading.readingType.powerOfTenMultiplier,
                "values": [
                    [int(r.timePeriod.start.timestamp()), int(r.timePeriod.duration.total_seconds()), r._value]
                    + [q.quality.value for q in r.readingQualities]
                    for r in reading.intervalReadings
                ],
            }
        points.append([point.title, point.serviceCategory.name, readings])
    return {"kinds": sorted(set(kinds)), "summaries": summaries, "points": points}


def iec61968(path):
    message = ET.parse(path).getroot()
    assert message.tag == MESSAGE + "EventMessage" and one(message, MESSAGE + "Header/" + MESSAGE + "Noun").text == "MeterReadings"
    readings = one(message, f"{MESSAGE}Payload/{METER}MeterReadings")
    conform(readings, METER, CIM)
    for kind in readings.iter(METER + "ReadingType"):
        assert re.fullmatch(r"[0-9]+(\.[0-9]+){17}", kind.get("ref")), kind.get("ref")
    for quality in readings.iter(METER + "ReadingQualityType"):
        assert re.fullmatch(r"3\.(0|5|6|7|8|11)\.[0-9]+", quality.get("ref")), quality.get("ref")
    items, curves = [], {}
    for reading in readings:
        point = reading.find(f"{METER}UsagePoint/{METER}mRID").text
        for item in reading.findall(METER + "Readings"):
            name = one(item, f"{METER}ReadingQualities/{METER}comment").text
            items.append([name, one(item, METER + "value").text, item.find(METER + "ReadingType").get("ref")])
        for block in reading.findall(METER + "IntervalBlocks"):
            meter = reading.find(f"{METER}Meter/{METER}mRID").text
            values = []
            for slot in block.findall(METER + "IntervalReadings"):
                end = datetime.datetime.fromisoformat(slot.findtext(METER + "timeStamp"))
                code = slot.find(f"{METER}ReadingQualities/{METER}ReadingQualityType").get("ref")
                values.append([int(end.timestamp()), slot.findtext(METER + "value"), code])
            curves[f"{point} {meter} {block.find(METER + 'ReadingType').get('ref')}"] = values
    return {"items": items, "curves": curves}


source, file = sys.argv[1:]
readers = {"nem12": nem12, "espi": espi, "iec61968": iec61968}
print(json.dumps(readers[source](file) if source in readers else rows(file, source)))
