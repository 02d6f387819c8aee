#!/usr/bin/env python3
"""Reads topics and compares every record with the message that `messages.py` says it must be.

Prints the counts as JSON. Exit code 0 when every message is there unchanged, in order for each key, and (but for
--allow-duplicates) once.
"""

import argparse
import sys

import findings
import messages
import reading


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    messages.add_arguments(parser)
    findings.add_arguments(parser)
    parser.add_argument("--brokers", required=True, help="HOST:PORT[,HOST:PORT]")
    parser.add_argument("--topic", action="append", required=True, help="may be repeated: the messages may lie in any of them")
    parser.add_argument("--committed", action="store_true", help="read committed transactions only")
    arguments = parser.parse_args()

    found = findings.Findings(messages.from_arguments(arguments), arguments)
    for record in reading.records(arguments.brokers, arguments.topic, arguments.committed, arguments.wait, found.complete):
        found.take(record)
    return found.report(arguments.allow_duplicates)


if __name__ == "__main__":
    sys.exit(main())
