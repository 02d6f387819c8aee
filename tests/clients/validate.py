#!/usr/bin/env python3
"""Checks JSON documents against a JSON Schema, and the schema against the meta-schema of the dialect that it names.

The documents are JSON Lines. For each a line is printed: `{"valid": bool, "errors": [{"at", "keyword", "message"}]}`.
"""

import argparse
import json
import sys

import jsonschema


def deepest(error: jsonschema.ValidationError) -> dict:
    """Of the branches of an `anyOf` the one that fits best says what is wrong."""
    best = jsonschema.exceptions.best_match([error])
    return {"at": best.json_path, "keyword": best.validator, "message": best.message[:300]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schema", required=True, metavar="FILE")
    parser.add_argument("--documents", metavar="FILE", help="JSON Lines; without it only the schema is checked")
    arguments = parser.parse_args()

    with open(arguments.schema, encoding="utf-8") as file:
        schema = json.load(file)
    dialect = jsonschema.validators.validator_for(schema, default=None)
    if dialect is None:
        raise SystemExit(f"no dialect is called {schema.get('$schema')}")
    dialect.check_schema(schema)
    validator = dialect(schema)
    if arguments.documents:
        with open(arguments.documents, encoding="utf-8") as file:
            for line in file:
                errors = [deepest(error) for error in validator.iter_errors(json.loads(line))]
                print(json.dumps({"valid": not errors, "errors": errors}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
