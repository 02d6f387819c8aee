"""Reading a whole stream, or what comes to a subscription."""

import asyncio
import collections
import time
from typing import AsyncIterator, Callable, NamedTuple

import nats.js.errors

import nats_client

# Of one wait; what decides is the caller's deadline.
PAUSE_S = 0.2


class Received(NamedTuple):
    subject: str
    sequence: int
    stored_ms: int
    payload: bytes
    headers: list[tuple[str, str]]


class Arrivals:
    """What has come and was not looked at: a callback is several times cheaper in nats-py than waiting for each message."""

    def __init__(self):
        self.messages = collections.deque()
        self.came = asyncio.Event()

    async def take(self, message) -> None:
        self.messages.append(message)
        self.came.set()

    async def wait(self, seconds: float) -> bool:
        """Whether there is one."""
        if not self.messages:
            self.came.clear()
            try:
                await asyncio.wait_for(self.came.wait(), seconds)
            except asyncio.TimeoutError:
                return False
        return True


async def of_stream(client, stream: str, wait_s: float, enough: Callable[[], bool]) -> AsyncIterator[Received]:
    """Yields what the stream has; with `wait_s`, also what comes until `enough()` or so many seconds have passed."""
    deadline = time.monotonic() + wait_s
    streams, arrivals = client.jetstream(), Arrivals()
    subscription, read = None, 0
    while True:
        last = await last_sequence(streams, stream)
        if last and subscription is None:
            subscription = await streams.subscribe("", stream=stream, ordered_consumer=True, cb=arrivals.take)
        while read < last:
            if not await arrivals.wait(30):
                raise SystemExit("the server has given no message for 30 s, but more are there")
            message = arrivals.messages.popleft()
            read = message.metadata.sequence.stream
            # In whole microseconds, which is what Python keeps of the server's time: no floating point rounds it.
            stored_us = round(message.metadata.timestamp.timestamp() * 1e6)
            yield Received(message.subject, read, stored_us // 1000, message.data, nats_client.pairs(message.headers))
        if enough() or time.monotonic() >= deadline:
            # Once more: what came in while the last messages were read are duplicates that must be counted.
            if await last_sequence(streams, stream) == read:
                return
        else:
            await asyncio.sleep(PAUSE_S)


async def last_sequence(streams, stream: str) -> int:
    """0 while there is no such stream."""
    try:
        return (await streams.stream_info(stream)).state.last_seq
    except nats.js.errors.NotFoundError:
        return 0


async def of_subject(client, subject: str, wait_s: float, enough: Callable[[], bool]) -> AsyncIterator[Received]:
    """Yields what comes, until `enough()` or so many seconds have passed. Prints `ready` when the server has the subscription."""
    arrivals = Arrivals()
    await client.subscribe(subject, cb=arrivals.take)
    # Its answer comes on the same connection behind the subscription.
    await client.flush(30)
    print("ready", flush=True)
    deadline, sequence = time.monotonic() + wait_s, 0
    while not enough() and time.monotonic() < deadline:
        if not await arrivals.wait(PAUSE_S):
            continue
        message = arrivals.messages.popleft()
        sequence += 1
        yield Received(message.subject, sequence, 0, message.data, nats_client.pairs(message.headers))


def add_arguments(parser) -> None:
    parser.add_argument("--servers", required=True, help="nats://HOST:PORT[,nats://HOST:PORT]")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--stream")
    place.add_argument("--subject", help="of core NATS; prints `ready` when it is subscribed")


async def received(arguments, client, enough: Callable[[], bool]) -> AsyncIterator[Received]:
    if arguments.stream:
        reading = of_stream(client, arguments.stream, arguments.wait, enough)
    else:
        reading = of_subject(client, arguments.subject, arguments.wait, enough)
    async for message in reading:
        yield message
