"""A validator in Python: the value is a JSON object whose `id` is a text of at least `min_length` characters."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports.messages import Message, Verdict


class Validation(exports.Validation):
    min_length = 1

    def configure(self, json: str) -> None:
        # Each call from the host gets an object of its own; what lasts belongs to the class.
        Validation.min_length = min_length(json)

    def validate(self, m: Message, value: bytes | None) -> Verdict:
        if value is None:
            return reject(m, "null_value", "the value is null")
        try:
            order = parsed(value)
        # Nesting past what the interpreter's stack holds is a RecursionError, bytes that are not UTF-8 are a ValueError.
        except (ValueError, RecursionError):
            return reject(m, "not_json", "the value is not JSON")
        identifier = order.get("id") if isinstance(order, dict) else None
        if not isinstance(identifier, str) or len(identifier) < self.min_length:
            return reject(m, "no_id", f"id is not a text of {self.min_length} characters or more")
        return Verdict.PASS


def min_length(text: str) -> int:
    """The only key of the configuration; an exception would end the instance, so what is wrong is an error to the host."""
    config = json.loads(text)
    unknown = sorted(set(config) - {"min_length"})
    if unknown:
        raise Err(f"config: unknown key {', '.join(unknown)}")
    length = config.get("min_length", 1)
    # A bool is an int in Python.
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise Err("config: min_length is not a number from 1")
    return length


def parsed(value: bytes) -> object:
    # Given bytes, `json.loads` would guess the encoding and take UTF-16; and without `parse_constant` it takes NaN.
    return json.loads(value.decode("utf-8"), parse_constant=not_a_number)


def not_a_number(_: str) -> object:
    raise ValueError


def reject(message: Message, code: str, detail: str) -> Verdict:
    message.reason(code, detail)
    return Verdict.REJECT
