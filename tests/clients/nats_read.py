#!/usr/bin/env python3
"""Prints the messages of a stream or subject as they are there: JSON Lines `{subject, sequence, stored_ms, value_b64, headers}`.

`headers` is a list of `[name, text]`, in the order of the wire.
"""

import argparse
import asyncio
import base64
import json
import sys

import nats_client
import nats_reading


async def read(arguments) -> int:
    client = await nats_client.connect(arguments.servers)
    printed = 0
    async for message in nats_reading.received(arguments, client, lambda: printed >= arguments.count):
        line = {
            "subject": message.subject,
            "sequence": message.sequence,
            "stored_ms": message.stored_ms,
            "value_b64": base64.b64encode(message.payload).decode(),
            "headers": message.headers,
        }
        print(json.dumps(line), flush=True)
        printed += 1
    await client.close()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    nats_reading.add_arguments(parser)
    parser.add_argument("--count", type=int, default=0, help="with --wait: how many messages to wait for")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="how long to wait for --count messages")
    return asyncio.run(read(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
