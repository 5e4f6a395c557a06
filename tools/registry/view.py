"""Where the tools read the registry from: a node that is believed, or resources that are proven."""

from __future__ import annotations

from typing import Protocol

from ledger.errors import RuleError
from ledger.registry_records import AgencyRecord, KeyRecord, LedgerRecord, TypeRecord
from tools.client import LedgerClient


class RegistryView(Protocol):
    """The registry's records. ``ledger.proven_registry.ProvenRegistry`` is one, whose records are proven.

    Raises UnknownAgency, UnknownType, KeyUnknown or NotFound for what is not there.
    """

    @property
    def ledger(self) -> LedgerRecord: ...

    def agency(self, number: int) -> AgencyRecord: ...

    def key(self, agency: int, number: int) -> KeyRecord: ...

    def keys(self, agency: int) -> tuple[KeyRecord, ...]: ...

    def type(self, number: int) -> TypeRecord: ...


class NodeRegistry:
    """The registry as a node says that it is, unproven; each record is asked for once.

    To prepare a change this is enough: on a wrong record the change is refused, nothing worse.
    """

    def __init__(self, client: LedgerClient) -> None:
        self._client = client
        self._records: dict[str, bytes] = {}

    @property
    def ledger(self) -> LedgerRecord:
        return LedgerRecord.decode(self._record("ledger"))

    def agency(self, number: int) -> AgencyRecord:
        return AgencyRecord.decode(self._record(f"agency/{number}"))

    def key(self, agency: int, number: int) -> KeyRecord:
        return KeyRecord.decode(self._record(f"agency/{agency}/key/{number}"))

    def keys(self, agency: int) -> tuple[KeyRecord, ...]:
        count = self.agency(agency).key_count
        return tuple(self.key(agency, number) for number in range(1, count + 1))

    def type(self, number: int) -> TypeRecord:
        return TypeRecord.decode(self._record(f"type/{number}"))

    def _record(self, subject: str) -> bytes:
        if subject not in self._records:
            self._records[subject] = self._client.record(subject).record
        return self._records[subject]


def agency_or_none(view: RegistryView, number: int) -> AgencyRecord | None:
    """The agency's record, None when there is no such agency."""
    try:
        return view.agency(number)
    except RuleError:
        return None
