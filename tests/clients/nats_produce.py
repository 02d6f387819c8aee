#!/usr/bin/env python3
"""Publishes the messages of `messages.py`, carried by the rule of docs/nats.md, and prints a summary as JSON. Into a stream
each is confirmed; with --core they go to whoever is subscribed, and the server has them all when this ends.

With --lines FILE publishes those of the file instead, as they are: JSON Lines `{subject, value, headers: [[name, text]]}`.
"""

import argparse
import asyncio
import json
import sys
import time

import carried
import messages
import nats_client

WINDOW = 2000


def to_send(arguments):
    """Subject, payload and headers of each."""
    if arguments.lines:
        for line in open(arguments.lines, encoding="utf-8"):
            line = json.loads(line)
            yield line["subject"], line["value"].encode(), [tuple(header) for header in line.get("headers", [])]
        return
    source = messages.from_arguments(arguments)
    for index in range(arguments.first, arguments.count):
        payload, headers = carried.to_nats(source.message(index))
        yield arguments.subject.replace("{n}", str(index % arguments.subjects)), payload, headers


class Confirmations:
    """Counts what a stream has confirmed, so that a bounded number of messages is under way."""

    def __init__(self):
        self.sent = self.confirmed = 0
        self.failures: list[str] = []
        self.came = asyncio.Event()

    async def take(self, message) -> None:
        answer = json.loads(message.data or b'{"error": "no stream takes the subject"}')
        self.confirmed += 1
        if "error" in answer:
            self.failures.append(str(answer["error"]))
        self.came.set()

    async def wait_until_under_way(self, at_most: int) -> None:
        while self.sent - self.confirmed > at_most:
            self.came.clear()
            await asyncio.wait_for(self.came.wait(), 30)


async def publish(arguments) -> int:
    client = await nats_client.connect(arguments.servers)
    confirmations = Confirmations()
    inbox = client.new_inbox()
    await client.subscribe(inbox, cb=confirmations.take)
    begun, sent = time.monotonic(), 0
    for subject, payload, headers in to_send(arguments):
        headers = nats_client.Headers(headers) if headers else None
        if arguments.core:
            await client.publish(subject, payload, headers=headers)
        else:
            await client.publish(subject, payload, reply=inbox, headers=headers)
            confirmations.sent += 1
            await confirmations.wait_until_under_way(WINDOW)
        sent += 1
        if sent % 500 == 0:
            # nats-py writes and reads in other tasks, which nothing else above lets run.
            await client.flush(30)
    await client.flush(30)
    await confirmations.wait_until_under_way(0)
    await client.close()
    seconds = time.monotonic() - begun
    rate = round(sent / seconds) if seconds else None
    failures = confirmations.failures
    print(json.dumps({"sent": sent, "failed": len(failures), "failures": failures[:5], "seconds": round(seconds, 3), "messages_per_second": rate}))
    return 1 if failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    messages.add_arguments(parser)
    parser.add_argument("--servers", required=True, help="nats://HOST:PORT[,nats://HOST:PORT]")
    parser.add_argument("--subject", help="`{n}` in it counts up to --subjects")
    parser.add_argument("--subjects", type=int, default=1, help="how many different subjects")
    parser.add_argument("--first", type=int, default=0, help="number of the first message to send")
    parser.add_argument("--lines", metavar="FILE")
    parser.add_argument("--core", action="store_true", help="at most once, to whoever is subscribed")
    return asyncio.run(publish(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
