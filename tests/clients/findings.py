"""What a reader found, compared with what `messages.py` says that it must find."""

import json
import time

import messages

EXAMPLES = 10


class Findings:
    """What was found, as counts and the first few examples."""

    def __init__(self, source: messages.Messages, arguments):
        self.source = source
        self.begun = time.monotonic()
        self.added = [added(text) for text in arguments.added]
        self.ignored_prefixes = tuple(arguments.ignore_prefix)
        self.seen = bytearray(source.count)
        self.last_of_key: dict[tuple, int] = {}
        self.last_record_of_key: dict[tuple, int] = {}
        self.partition_of_key: dict[tuple, int] = {}
        self.counts = dict.fromkeys(
            ["read", "distinct", "duplicates", "unknown", "changed", "disorder", "rewinds", "split_keys", "log_append_time"], 0
        )
        self.examples: list[dict] = []

    def complete(self) -> bool:
        return self.counts["distinct"] == self.source.count

    def take(self, record) -> None:
        self.counts["read"] += 1
        index = sequence(record.headers)
        if index is None or index >= self.source.count:
            return self.finding("unknown", record, index)
        expected = self.source.message(index)
        self.compare(record, index, expected)
        first_time = not self.seen[index]
        self.seen[index] = 1
        self.counts["distinct" if first_time else "duplicates"] += 1
        if expected.key is not None:
            self.order(record, index, (record.topic, expected.key), first_time)

    def compare(self, record, index: int, expected: messages.Message) -> None:
        headers = [header for header in record.headers if not (self.ignored_prefixes and header[0].startswith(self.ignored_prefixes))]
        pairs = {
            "key": (record.key, expected.key),
            "value": (record.value, expected.value),
            "headers": (headers, expected.headers + self.added),
            "timestamp": (record.timestamp, expected.timestamp_ms),
        }
        differing = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        if differing:
            found = {name: {"is": repr(pair[0])[:200], "should_be": repr(pair[1])[:200]} for name, pair in differing.items()}
            self.finding("changed", record, index, **found)
        if record.timestamp_type != 0:
            self.counts["log_append_time"] += 1

    def order(self, record, index: int, key: tuple, first_time: bool) -> None:
        """Duplicates go back and are counted as rewinds; disorder is a message whose first copy comes after a later one's."""
        if index < self.last_record_of_key.get(key, -1):
            self.counts["rewinds"] += 1
        self.last_record_of_key[key] = index
        if first_time:
            if index < self.last_of_key.get(key, -1):
                self.finding("disorder", record, index, after=self.last_of_key[key])
            self.last_of_key[key] = max(index, self.last_of_key.get(key, -1))
        if self.partition_of_key.setdefault(key, record.partition) != record.partition:
            self.finding("split_keys", record, index, also_in=self.partition_of_key[key])

    def finding(self, kind: str, record, index, **more) -> None:
        self.counts[kind] += 1
        if len(self.examples) < EXAMPLES:
            place = f"{record.topic}-{record.partition}@{record.offset}"
            self.examples.append({"kind": kind, "place": place, "seq": index, **more})

    def is_good(self, allow_duplicates: bool) -> bool:
        bad = ["unknown", "changed", "disorder", "split_keys", "log_append_time"]
        if not allow_duplicates:
            bad.append("duplicates")
        return self.complete() and not any(self.counts[kind] for kind in bad)

    def report(self, allow_duplicates: bool, **more) -> int:
        """Prints the counts and gives the exit code. `more` are counts of the caller, which do not decide."""
        missing = [index for index, seen in enumerate(self.seen) if not seen]
        good = self.is_good(allow_duplicates)
        summary = {
            "good": good,
            "expected": self.source.count,
            **self.counts,
            **more,
            "missing": len(missing),
            "missing_first": missing[:EXAMPLES],
            "seconds": round(time.monotonic() - self.begun, 3),
            "examples": self.examples,
        }
        print(json.dumps(summary))
        return 0 if good else 1


def add_arguments(parser) -> None:
    """The options of everything that verifies."""
    parser.add_argument("--added", action="append", default=[], metavar="NAME=VALUE", help="a header expected after the sent ones; NAME alone: null")
    parser.add_argument("--ignore-prefix", action="append", default=[], metavar="PREFIX", help="headers that are left out of the comparison")
    parser.add_argument("--allow-duplicates", action="store_true")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="how long to wait for missing messages")


def sequence(headers):
    for name, value in headers:
        if name == "seq" and value is not None and value.isdigit():
            return int(value)
    return None


def added(text: str):
    name, equals, value = text.partition("=")
    return (name, value.encode() if equals else None)
