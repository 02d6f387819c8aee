"""The messages that the test clients send and expect: a pure function of the seed, so that no list of them has to be kept.

They hold what bridges lose: binary, empty and null keys; tombstones, empty and binary values; headers that repeat, are
empty, null, binary or named outside ASCII, and such as steer a NATS server or a reader; timestamps of decades ago.
"""

import hashlib
import json
import zlib
from typing import NamedTuple, Optional

Header = tuple[str, Optional[bytes]]

# What a bridge into NATS must neither copy nor lose: instructions to a server and to a reader, the bridge's own names, and
# what ends a line or is trimmed there.
STEERING: list[Header] = [
    ("Nats-Rollup", b"all"),
    ("Nats-Msg-Id", b"the same for all"),
    ("nats-ttl", b"1s"),
    ("Nats-Expected-Last-Sequence", b"0"),
    ("Status", b"404"),
    ("Portcullis-Key", b"x"),
    ("Portcullis-Null", b"key,value"),
    ("a:b", b"c"),
    ("a=b!", b" c "),
    ("line", b"c\r\nNats-Rollup: all"),
]


class Message(NamedTuple):
    key: Optional[bytes]
    value: Optional[bytes]
    headers: list[Header]
    timestamp_ms: int


class Messages:
    """Message number 0 to `count` - 1 of a seed. `size` is the mean length of a binary value in bytes."""

    def __init__(self, seed: int, count: int, keys: int, size: int, values: str):
        self.seed, self.count, self.size, self.values = seed, count, size, values
        odd_ones = [b"", b"\x00", b"\xff\xfe\x00", "schlüssel".encode()]
        self.keys = (odd_ones + [self._bytes(f"key/{n}", 12) for n in range(keys)])[: max(keys, 1)]

    def message(self, index: int) -> Message:
        dice = self._bytes(str(index), 48)
        value = self._value(index, dice)
        # One key in sixteen is null; not with a tombstone, which kafka-python refuses to send without a key.
        null_key = dice[0] < 16 and value is not None
        key = None if null_key else self.keys[int.from_bytes(dice[1:5], "big") % len(self.keys)]
        return Message(key, value, self._headers(index, dice), self._timestamp(index, dice))

    def partition(self, index: int, key: Optional[bytes], partitions: int) -> int:
        """One partition for each key, as order per key needs; null keys go round."""
        return (index if key is None else zlib.crc32(key)) % partitions

    def _value(self, index: int, dice: bytes) -> Optional[bytes]:
        order = {"id": index, "customer": dice[20:24].hex(), "amount": dice[24] + 1, "note": "größer als nötig"}
        if self.values == "json":
            return json.dumps(order, ensure_ascii=False).encode()
        kind = dice[5]
        if kind < 16:
            return None
        if kind < 24:
            return b""
        if kind < 128:
            return json.dumps(order, ensure_ascii=False).encode()
        length = int.from_bytes(dice[6:10], "big") % (2 * self.size) + 1
        return self._bytes(f"value/{index}", length)

    def _headers(self, index: int, dice: bytes) -> list[Header]:
        """`seq` tells a reader which message it has, even when key and value are null."""
        headers: list[Header] = [("seq", str(index).encode())]
        choice = dice[10]
        if choice & 1:
            headers += [("dup", dice[26:30]), ("dup", dice[30:34])]
        if choice & 2:
            headers.append(("null", None))
        if choice & 4:
            headers.append(("empty", b""))
        if choice & 8:
            headers.append(("größe", dice[34:38]))
        if choice & 16:
            headers += [("dup", None), ("dup", dice[26:30])]
        if choice >= 248:
            headers.append(("", dice[38:40]))
        if dice[12] < 32:
            headers.append(STEERING[dice[13] % len(STEERING)])
        return headers

    def _timestamp(self, index: int, dice: bytes) -> int:
        # 1970, 2000, 2017 and 2025; never 0 itself, which librdkafka cannot send: it reads it as "now" (docs/kafka.md).
        eras = (1, 946_684_800_000, 1_500_000_000_123, 1_750_000_000_456)
        return eras[dice[11] % 4] + index

    def _bytes(self, what: str, length: int) -> bytes:
        return hashlib.shake_128(f"{self.seed}/{what}".encode()).digest(length)


def add_arguments(parser) -> None:
    """The options that sender and reader have to agree on."""
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--keys", type=int, default=1000, help="how many different keys")
    parser.add_argument("--size", type=int, default=200, help="mean length of a binary value in bytes")
    parser.add_argument("--values", choices=["mixed", "json"], default="mixed")


def from_arguments(arguments) -> Messages:
    return Messages(arguments.seed, arguments.count, arguments.keys, arguments.size, arguments.values)
