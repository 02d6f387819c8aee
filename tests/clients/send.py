#!/usr/bin/env python3
"""Sends the messages of a file, as the file connector reads them, to the topics that their `channel` names, in their order.

Messages with a key go to the partition that kafka-python computes for it, as the Java client does.
"""

import argparse
import json
import sys

from kafka import KafkaProducer

import lines
import produce


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True, help="HOST:PORT[,HOST:PORT]")
    parser.add_argument("--file", required=True)
    arguments = parser.parse_args()

    produce.allow_null_headers()
    producer = KafkaProducer(
        bootstrap_servers=arguments.brokers.split(","), acks="all", enable_idempotence=True, metrics_enabled=False
    )
    failures = []
    with open(arguments.file, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            fields = json.loads(line)
            record = lines.record(number, fields)
            future = producer.send(
                fields["channel"],
                key=record.key,
                value=record.value,
                headers=[(name, produce.NULL if value is None else value) for name, value in record.headers],
                timestamp_ms=record.timestamp,
            )
            future.add_errback(failures.append)
    producer.flush(timeout=60)
    producer.close()
    print(json.dumps({"failures": [repr(failure) for failure in failures]}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
