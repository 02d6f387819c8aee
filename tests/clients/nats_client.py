"""nats-py with what NATS has and nats-py's dictionary of headers has not: several headers of one name, in their order."""

import nats.aio.client


class Headers(dict):
    """A dictionary for nats-py, which asks for `items()` when it sends; `pairs` is everything."""

    def __init__(self, pairs: list[tuple[str, str]]):
        super().__init__(pairs)
        self.pairs = pairs

    def items(self):
        return self.pairs


class Client(nats.aio.client.Client):
    @staticmethod
    def _parse_header_lines(raw: bytes) -> Headers:
        lines = (line.partition(b":") for line in raw.split(b"\r\n") if b":" in line)
        return Headers([(name.decode(), value.strip(b" \t").decode()) for name, _, value in lines])


def pairs(headers) -> list[tuple[str, str]]:
    return headers.pairs if isinstance(headers, Headers) else []


async def connect(servers: str) -> Client:
    client = Client()
    # Pings are not answered while Python is busy with what came before them.
    await client.connect(servers.split(","), connect_timeout=10, max_outstanding_pings=100)
    return client
