"""Writes each case as a capture, and truth.json: `main.py FOLDER [PART OF A NAME]`."""

import json
import random
import re
import sys

from scapy.all import PcapWriter

import attacks  # noqa: F401
import round2  # noqa: F401
import round3  # noqa: F401
import round3_services  # noqa: F401
import round3_twins  # noqa: F401
import services  # noqa: F401
import twins  # noqa: F401
from wire import CASES, as_captured

START = 1_700_000_000
LINKS = {"ethernet": 1, "raw": 101, "sll": 113}


def main(folder, part=""):
    truth = []
    for case in CASES:
        if part not in case["name"]:
            continue
        random.seed(case["name"])
        form = case["form"]
        packets = sorted(as_captured(case["make"](), **form), key=lambda timed: timed[0])
        name = re.sub("[^a-z0-9]+", "-", case["name"].lower()).strip("-") + ".pcap"
        with PcapWriter(f"{folder}/{name}", linktype=LINKS[form.get("link", "ethernet")]) as out:
            out.write_header(None)
            for t, data, size in packets:
                second, fraction = divmod(round(t * 1_000_000), 1_000_000)
                out.write_packet(data, sec=START + second, usec=fraction, caplen=len(data), wirelen=size)
        truth.append({**{key: value for key, value in case.items() if key not in ("make", "form")}, "file": name})
    with open(f"{folder}/truth.json", "w") as out:
        json.dump(truth, out, indent=1)


main(*sys.argv[1:])
