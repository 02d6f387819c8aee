#!/usr/bin/env python3
"""Prints the records of topics as JSON Lines: `{topic, partition, offset, timestamp_ms, key_b64, value_b64, headers}`.

Null stays null; everything else that is bytes is base64. `headers` is a list of `[name, base64 or null]`.
"""

import argparse
import base64
import json
import sys

import reading


def text(data):
    return None if data is None else base64.b64encode(data).decode()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True, help="HOST:PORT[,HOST:PORT]")
    parser.add_argument("--topic", action="append", required=True, help="may be repeated")
    parser.add_argument("--committed", action="store_true", help="read committed transactions only")
    parser.add_argument("--count", type=int, default=0, help="with --wait: how many records to wait for")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="how long to wait for --count records")
    arguments = parser.parse_args()

    printed = 0
    for record in reading.records(
        arguments.brokers, arguments.topic, arguments.committed, arguments.wait, lambda: printed >= arguments.count
    ):
        line = {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp_ms": record.timestamp,
            "key_b64": text(record.key),
            "value_b64": text(record.value),
            "headers": [[name, text(value)] for name, value in record.headers],
        }
        print(json.dumps(line))
        printed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
