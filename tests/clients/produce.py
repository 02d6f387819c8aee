#!/usr/bin/env python3
"""Sends the messages of `messages.py` to a topic and prints a summary as JSON. Exit code 0 when the broker confirmed all."""

import argparse
import json
import sys
import time

from kafka import KafkaProducer
from kafka.record.memory_records import MemoryRecordsBuilder

import messages


class NullHeader(bytes):
    """Stands for a header value that is null on the wire: `send` takes bytes only, though the record format knows null."""


NULL = NullHeader()


def allow_null_headers() -> None:
    """Puts null in the place of its stand-in as late as possible, where kafka-python encodes the record."""
    append = MemoryRecordsBuilder.append

    def append_with_nulls(self, timestamp, key, value, headers=None):
        headers = [(name, None if header is NULL else header) for name, header in headers or []]
        return append(self, timestamp, key, value, headers)

    MemoryRecordsBuilder.append = append_with_nulls


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    messages.add_arguments(parser)
    parser.add_argument("--brokers", required=True, help="HOST:PORT[,HOST:PORT]")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first message to send")
    parser.add_argument("--rate", type=float, help="messages a second; without it, as fast as it goes")
    arguments = parser.parse_args()

    allow_null_headers()
    producer = KafkaProducer(
        bootstrap_servers=arguments.brokers.split(","),
        acks="all",
        enable_idempotence=True,
        linger_ms=20,
        batch_size=256 * 1024,
        max_request_size=4 * 1024 * 1024,
        metrics_enabled=False,
    )
    partitions = len(producer.partitions_for(arguments.topic))
    source = messages.from_arguments(arguments)
    failures = []
    begun = time.monotonic()
    for index in range(arguments.first, arguments.count):
        if arguments.rate:
            time.sleep(max(0.0, begun + (index - arguments.first) / arguments.rate - time.monotonic()))
        message = source.message(index)
        future = producer.send(
            arguments.topic,
            key=message.key,
            value=message.value,
            headers=[(name, NULL if value is None else value) for name, value in message.headers],
            timestamp_ms=message.timestamp_ms,
            partition=source.partition(index, message.key, partitions),
        )
        future.add_errback(failures.append)
    producer.flush(timeout=120)
    producer.close()
    seconds = time.monotonic() - begun
    sent = arguments.count - arguments.first
    summary = {
        "topic": arguments.topic,
        "partitions": partitions,
        "sent": sent - len(failures),
        "failed": len(failures),
        "failures": [repr(failure) for failure in failures[:5]],
        "seconds": round(seconds, 3),
        "messages_per_second": round(sent / seconds) if seconds else None,
    }
    print(json.dumps(summary))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
