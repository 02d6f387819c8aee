#!/usr/bin/env python3
"""Gives a user rights on topics and groups, as an administrator does: `--allow topic:orders.raw:READ`."""

import argparse
import sys

from kafka.admin import ACL, ACLOperation, ACLPermissionType, KafkaAdminClient, ResourcePattern, ResourceType


def right(user: str, text: str) -> ACL:
    kind, name, operation = text.split(":")
    resource = ResourcePattern(ResourceType[kind.upper()], name)
    return ACL(f"User:{user}", "*", ACLOperation[operation.upper()], ACLPermissionType.ALLOW, resource)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", required=True, help="HOST:PORT[,HOST:PORT]")
    parser.add_argument("--user", required=True)
    parser.add_argument("--allow", action="append", required=True, help="KIND:NAME:OPERATION; may be repeated")
    arguments = parser.parse_args()

    admin = KafkaAdminClient(bootstrap_servers=arguments.brokers)
    result = admin.create_acls([right(arguments.user, text) for text in arguments.allow])
    print(result)
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
