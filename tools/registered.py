"""Which keys are registered with which agency, as a node says: unproven.

A wrong answer makes a submission or a change that the ledger refuses, nothing worse.
"""

from __future__ import annotations

from typing import Final

from ledger.registry_records import AgencyRecord, KeyRecord, LedgerRecord
from ledger.signatures import key_fingerprint
from tools.client import LedgerClient

MAX_SEARCH: Final = 256
"""Most agencies that are looked through: the newest."""


def newest_agencies(client: LedgerClient) -> range:
    """The numbers of the newest agencies, the newest first. One call."""
    count = LedgerRecord.decode(client.record("ledger").record).agencies
    return range(count, max(count - MAX_SEARCH, 0), -1)


def registered_keys(client: LedgerClient, agency: int) -> dict[str, int]:
    """Key numbers by fingerprint, of the keys that ended as well. One call, and one a key."""
    count = AgencyRecord.decode(client.record(f"agency/{agency}").record).key_count
    keys = {}
    for number in range(1, count + 1):
        record = KeyRecord.decode(client.record(f"agency/{agency}/key/{number}").record)
        keys[key_fingerprint(record.algorithm, record.public_key).hex()] = number
    return keys
