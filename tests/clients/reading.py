"""Reading whole topics, without a consumer group."""

import time
from typing import Callable, Iterator

from kafka import KafkaConsumer, TopicPartition


def records(brokers: str, topics: list[str], committed_only: bool, wait_s: float, enough: Callable[[], bool]) -> Iterator:
    """Yields what is in the topics from their beginnings up to their ends.

    With `wait_s`, goes on reading past the ends until `enough()`, or until that many seconds have passed since the start.
    """
    consumer = KafkaConsumer(
        bootstrap_servers=brokers.split(","),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed" if committed_only else "read_uncommitted",
        max_poll_records=5000,
        max_partition_fetch_bytes=4 * 1024 * 1024,
        allow_auto_create_topics=False,
        metrics_enabled=False,
    )
    try:
        deadline = time.monotonic() + wait_s
        partitions = [TopicPartition(topic, number) for topic in topics for number in existing(consumer, topic, deadline)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        while True:
            yield from up_to_the_ends(consumer, partitions)
            if enough() or time.monotonic() >= deadline:
                # Once more: what came in while the last messages were read are duplicates that must be counted.
                yield from up_to_the_ends(consumer, partitions)
                return
    finally:
        consumer.close()


def existing(consumer: KafkaConsumer, topic: str, deadline: float) -> list[int]:
    """The topic's partitions; a topic that does not exist (yet) is waited for until the deadline."""
    while True:
        numbers = consumer.partitions_for_topic(topic)
        if numbers:
            return sorted(numbers)
        if time.monotonic() >= deadline:
            raise SystemExit(f"topic {topic} does not exist")
        time.sleep(0.1)


def up_to_the_ends(consumer: KafkaConsumer, partitions: list[TopicPartition]) -> Iterator:
    """Reads to the end offsets of now. Positions count, not records: a transaction's marker takes an offset too."""
    ends = consumer.end_offsets(partitions)
    idle_since = time.monotonic()
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        batches = consumer.poll(timeout_ms=200)
        if batches:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > 30:
            raise SystemExit("the broker has given no record for 30 s, but more are there")
        for batch in batches.values():
            yield from batch
