#!/usr/bin/env python3
"""Prints the messages of `messages.py` as the JSON Lines that the file connector reads.

With --verify FILE compares the lines of such a file with them instead, and prints counts and exits as `verify.py`.
"""

import argparse
import base64
import json
import sys

import carried
import findings
import messages


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def line(message: messages.Message) -> dict:
    headers = [[name, None if value is None else {"b64": text(value)}] for name, value in message.headers]
    fields = {"headers": headers, "timestamp_ms": message.timestamp_ms}
    fields |= {"key": None} if message.key is None else {"key_b64": text(message.key)}
    fields |= {"value": None} if message.value is None else {"value_b64": text(message.value)}
    return fields


def record(number: int, fields: dict) -> carried.Record:
    def data(value):
        return base64.b64decode(value["b64"]) if isinstance(value, dict) else value if value is None else value.encode()

    def part(name):
        encoded = fields.get(name + "_b64")
        return base64.b64decode(encoded) if encoded is not None else data(fields.get(name))

    headers = [(name, data(value)) for name, value in fields.get("headers", [])]
    return carried.Record("file", 0, number, part("key"), part("value"), headers, fields.get("timestamp_ms"), 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    messages.add_arguments(parser)
    findings.add_arguments(parser)
    parser.add_argument("--verify", metavar="FILE")
    arguments = parser.parse_args()
    source = messages.from_arguments(arguments)
    if arguments.verify:
        found = findings.Findings(source, arguments)
        for number, written in enumerate(open(arguments.verify, encoding="utf-8"), 1):
            found.take(record(number, json.loads(written)))
        return found.report(arguments.allow_duplicates)
    for index in range(source.count):
        print(json.dumps(line(source.message(index))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
