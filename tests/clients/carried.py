"""The rule of docs/nats.md, written from that page alone: how a message with a key, nulls, a timestamp and headers of any
kind travels through NATS. So reader and writer here check what the bridge does, and not what it believes.
"""

import re
from typing import NamedTuple, Optional

import messages

KEY, NULL, TIMESTAMP, HEADERS = "Portcullis-Key", "Portcullis-Null", "Portcullis-Timestamp", "Portcullis-Headers"
OWN = ("Nats-Msg-Id", "Nats-Expected-Stream")


class Record(NamedTuple):
    """What `findings.py` looks at, as kafka-python names it."""

    topic: str
    partition: int
    offset: int
    key: Optional[bytes]
    value: Optional[bytes]
    headers: list
    timestamp: Optional[int]
    timestamp_type: int


def to_nats(message: messages.Message) -> tuple[bytes, list[tuple[str, str]]]:
    """Payload and headers."""
    nulls = [part for part, value in (("key", message.key), ("value", message.value)) if value is None]
    headers = [(TIMESTAMP, f"created {message.timestamp_ms}")]
    if message.key is not None:
        headers.append((KEY, percent(message.key)))
    if nulls:
        headers.append((NULL, ",".join(nulls)))
    listed = []
    for name, value in message.headers:
        if is_plain(name, value):
            headers.append((name, value.decode()))
            listed.append(percent(name.encode(), "=!"))
        elif value is None:
            listed.append(percent(name.encode(), "=!") + "!")
        else:
            listed.append(percent(name.encode(), "=!") + "=" + percent(value, "=!"))
    headers.append((HEADERS, " ".join(listed)))
    return message.value or b"", headers


def from_nats(subject: str, sequence: int, payload: bytes, headers: list[tuple[str, str]]) -> Record:
    def one(name):
        return next((value for known, value in headers if known == name), None)

    nulls = (one(NULL) or "").split(",")
    kind, ms = (one(TIMESTAMP) or "none 0").split(" ")
    key = one(KEY)
    left = [header for header in headers if header[0] not in (KEY, NULL, TIMESTAMP, HEADERS)]
    if (one("Nats-Msg-Id") or "").startswith("portcullis/"):
        left = [header for header in left if header[0] not in OWN]
    left.sort(key=lambda header: header[0])
    return Record(
        topic=subject,
        partition=0,
        offset=sequence,
        key=None if "key" in nulls else subject.encode() if key is None else unpercent(key),
        value=None if "value" in nulls and not payload else payload,
        headers=listed_headers(one(HEADERS), left),
        timestamp=int(ms) if kind != "none" else None,
        timestamp_type={"created": 0, "appended": 1, "none": -1}[kind],
    )


def listed_headers(listed: Optional[str], left: list[tuple[str, str]]) -> list[messages.Header]:
    headers: list[messages.Header] = []
    for word in (listed or "").split():
        name, held, value = word.partition("=")
        if held:
            headers.append((unpercent(name).decode(), unpercent(value)))
        elif word.endswith("!"):
            headers.append((unpercent(word[:-1]).decode(), None))
        else:
            place = next(at for at, header in enumerate(left) if header[0] == unpercent(word).decode())
            headers.append((left[place][0], left.pop(place)[1].encode()))
    return headers + [(name, value.encode()) for name, value in left]


def is_plain(name: str, value: Optional[bytes]) -> bool:
    if value is None or not re.fullmatch(r"[!-9;-~]+", name):
        return False
    if name.lower().startswith(("nats-", "portcullis-")) or name.lower() in ("status", "description"):
        return False
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return False
    return text.strip() == text and all(character.isprintable() or character == " " for character in text)


def table(also: str) -> list[str]:
    kept = set(range(0x21, 0x7F)) - set(b"%" + also.encode())
    return [chr(byte) if byte in kept else f"%{byte:02X}" for byte in range(256)]


TABLES = {also: table(also) for also in ("", "=!")}


def percent(data: bytes, also: str = "") -> str:
    return "".join(map(TABLES[also].__getitem__, data))


def unpercent(text: str) -> bytes:
    data = text.encode()
    if b"%" not in data:
        return data
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), data)
