#!/usr/bin/env python3
"""Reads Portcullis' audit events as a SIEM would: prints what was granted, what was refused and what went wrong, and checks
that the chain of hashes is whole.

From a topic (--brokers, --topic; --follow goes on at its end) or from an audit file (--file). Exit code 1 when a chain is
broken or a record is no event, 0 otherwise.
"""

import argparse
import collections
import datetime
import hashlib
import json
import sys

# Chains that are remembered: each start of a bridge begins one.
MAX_CHAINS = 10_000
MAX_TEXT = 300
# Allowed, and with it what could happen.
GRANTED = {"plugin.linked"}
REFUSED = {"plugin.rejected", "config.rejected", "plugin.disabled"}
TROUBLE = {"audit.loss", "plugin.trapped", "budget.exceeded"}


class Broken(Exception):
    """The evidence is not what was written."""


class Chains:
    """Checks each event against the one before it in its chain."""

    def __init__(self):
        self.heads = collections.OrderedDict()
        self.events = 0
        self.notes = []

    def take(self, value: bytes) -> dict:
        """The event of a record; raises Broken when it does not continue its chain."""
        event = parsed(value)
        try:
            integrity, sequence = event["unmapped"]["integrity"], event["metadata"]["sequence"]
            chain, previous = integrity["chain_uid"], integrity["prev_sha256"]
        except (KeyError, TypeError) as missing:
            raise Broken(f"a record without {missing}: no event of the bridge") from None
        if chain not in self.heads:
            self.begin(chain, sequence, previous)
        else:
            last_sequence, last_hash = self.heads[chain]
            if sequence != last_sequence + 1:
                raise Broken(f"chain {chain}: event {sequence} comes after {last_sequence}")
            if previous != last_hash:
                raise Broken(f"chain {chain}: event {last_sequence} is not the one that event {sequence} was written after")
        # The leaf hash of RFC 6962: a zero byte, then the bytes of the event.
        self.heads[chain] = (sequence, hashlib.sha256(b"\0" + value).hexdigest())
        self.heads.move_to_end(chain)
        if len(self.heads) > MAX_CHAINS:
            self.heads.popitem(last=False)
        self.events += 1
        return event

    def begin(self, chain: str, sequence: int, previous: str) -> None:
        if sequence == 1:
            if previous != "0" * 64:
                raise Broken(f"chain {chain}: the first event has one before it")
        else:
            # Retention may have taken what was before; whether it was retention, the topic's settings say.
            self.notes.append(f"chain {shown(chain)} begins at event {sequence}: what was before is not there")


def parsed(value: bytes | None) -> dict:
    try:
        event = json.loads(value or b"")
    except ValueError:
        raise Broken("a record that is not JSON") from None
    if not isinstance(event, dict):
        raise Broken("a record that is not an object")
    return event


def finding(event: dict) -> tuple[str, str] | None:
    """GRANTED, REFUSED, MESSAGE (a dead letter), TROUBLE or ALERT with one line about it; None for what is none of these."""
    code = event["metadata"].get("event_code", "")
    if code in TROUBLE:
        kind = "TROUBLE"
    elif code in REFUSED or code.endswith(".denied"):
        kind = "REFUSED"
    elif code == "record.quarantined":
        kind = "MESSAGE"
    elif code in GRANTED or code.endswith(".allowed"):
        kind = "GRANTED"
    else:
        return None
    if event.get("is_alert") is True:
        kind = "ALERT"
    return kind, line(code, event)


def line(code: str, event: dict) -> str:
    actor = at(event, "app", "name") or at(event, "actor", "app_name") or "the bridge"
    words = [moment(event.get("time")), code, actor]
    words += [target for target in [destination(event)] if target]
    details = {
        "reason": event.get("status_detail"),
        "code": event.get("status_code"),
        "rule": at(event, "firewall_rule", "uid"),
        "message": at(event, "metadata", "correlation_uid"),
        "digest": at(event, "app", "uid") if code == "plugin.linked" else None,
        "limit": at(event, "unmapped", "budget", "limit") and json.dumps(at(event, "unmapped", "budget")),
        "grants": grants(event) if code == "plugin.linked" else None,
    }
    words += [f"{name}={value}" for name, value in details.items() if value]
    if event.get("count", 1) != 1:
        words.append(f"x{event['count']}")
    return " ".join(shown(word) for word in words)


def moment(time_ms) -> str:
    try:
        return datetime.datetime.fromtimestamp(time_ms / 1000, datetime.timezone.utc).isoformat(timespec="milliseconds")
    except (TypeError, ValueError, OverflowError, OSError):
        return "?"


def destination(event: dict) -> str | None:
    """What a plugin wanted: the method and URL, the name, or the address."""
    request = event.get("http_request")
    if isinstance(request, dict):
        url = request.get("url") or {}
        return f"{request.get('http_method')} {url.get('scheme')}://{url.get('hostname')}:{url.get('port')}{url.get('path', '')}"
    name = at(event, "query", "hostname")
    if name:
        return str(name)
    end = event.get("dst_endpoint")
    if isinstance(end, dict):
        return f"{end.get('hostname') or end.get('ip')}:{end.get('port')}"
    return None


def grants(event: dict) -> str | None:
    data = at(event, "policy", "data")
    if isinstance(data, str):
        try:
            data = json.loads(data)
        except ValueError:
            return data
    found = data.get("grants") if isinstance(data, dict) else None
    return json.dumps(found, sort_keys=True) if found else None


def at(value, *path):
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def shown(text) -> str:
    """One line of printable ASCII: what a plugin chose must not draw on a terminal or forge a second line."""
    text = str(text).encode("ascii", "backslashreplace").decode()
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."


def from_file(path: str):
    with open(path, "rb") as file:
        for record in file:
            yield record.rstrip(b"\n")


def from_topic(brokers: str, topic: str, follow: bool):
    """Every record from the topic's beginning, without a group: nothing is committed, and each start checks everything."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=brokers.split(","), client_id="audit-reader", enable_auto_commit=False, allow_auto_create_topics=False,
        isolation_level="read_committed", metrics_enabled=False,
    )
    try:
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise SystemExit(f"topic {shown(topic)} does not exist")
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        while follow or any(consumer.position(partition) < end for partition, end in ends.items()):
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    yield record.value
    finally:
        consumer.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", help="HOST:PORT[,HOST:PORT]")
    parser.add_argument("--topic", default="portcullis.audit")
    parser.add_argument("--follow", action="store_true", help="goes on at the end of the topic")
    parser.add_argument("--file", help="an audit file instead of a topic")
    arguments = parser.parse_args()
    if (arguments.file is None) == (arguments.brokers is None):
        parser.error("either --brokers or --file")
    records = from_file(arguments.file) if arguments.file else from_topic(arguments.brokers, arguments.topic, arguments.follow)
    chains, counts = Chains(), collections.Counter()
    try:
        for value in records:
            found = finding(chains.take(value))
            if found:
                counts[found[0]] += 1
                print(*found, flush=True)
            for note in chains.notes:
                print("NOTE", note, flush=True)
            chains.notes.clear()
    except Broken as broken:
        print("BROKEN", shown(broken), flush=True)
        return 1
    except KeyboardInterrupt:
        pass
    totals = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "nothing granted or refused"
    print(f"WHOLE {chains.events} events in {len(chains.heads)} chains: {totals}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
