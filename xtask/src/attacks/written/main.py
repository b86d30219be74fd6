"""Writes each case as a capture, and truth.json: `main.py FOLDER [PART OF A NAME]`."""

import json
import random
import re
import sys

from scapy.all import wrpcap

import attacks  # noqa: F401
import round2  # noqa: F401
import services  # noqa: F401
import twins  # noqa: F401
from wire import CASES

START = 1_700_000_000.0


def main(folder, part=""):
    truth = []
    for case in CASES:
        if part not in case["name"]:
            continue
        random.seed(case["name"])
        packets = []
        for t, packet in sorted(case["make"](), key=lambda timed: timed[0]):
            packet.time = START + t
            packets.append(packet)
        name = re.sub("[^a-z0-9]+", "-", case["name"].lower()).strip("-") + ".pcap"
        wrpcap(f"{folder}/{name}", packets, linktype=1)
        truth.append({**{key: value for key, value in case.items() if key != "make"}, "file": name})
    with open(f"{folder}/truth.json", "w") as out:
        json.dump(truth, out, indent=1)


main(*sys.argv[1:])
