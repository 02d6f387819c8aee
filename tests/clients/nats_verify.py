#!/usr/bin/env python3
"""Reads a stream or subject and compares every message with the one that `messages.py` says it must be.

Prints the counts as JSON; `steering` counts headers that would steer a server and are not the bridge's own. Exit code 0 when
every message is there unchanged, in order for each key, and (but for --allow-duplicates) once.
"""

import argparse
import asyncio
import sys

import carried
import findings
import messages
import nats_client
import nats_reading


def steers(name: str, value: str) -> bool:
    own = name == "Nats-Expected-Stream" or name == "Nats-Msg-Id" and value.startswith("portcullis/")
    return name.lower().startswith("nats-") and not own


async def verify(arguments) -> int:
    client = await nats_client.connect(arguments.servers)
    found = findings.Findings(messages.from_arguments(arguments), arguments)
    steering = 0
    async for message in nats_reading.received(arguments, client, found.complete):
        found.take(carried.from_nats(message.subject, message.sequence, message.payload, message.headers))
        steering += sum(steers(*header) for header in message.headers)
    more = {"steering": steering}
    if arguments.stream:
        more["stored"] = (await client.jetstream().stream_info(arguments.stream)).state.messages
    await client.close()
    return found.report(arguments.allow_duplicates, **more)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    messages.add_arguments(parser)
    findings.add_arguments(parser)
    nats_reading.add_arguments(parser)
    return asyncio.run(verify(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
