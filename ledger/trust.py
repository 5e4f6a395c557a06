"""The trust file: which ledgers a verifier believes, and by which keys.

Canonical JSON. Everything a verdict rests on is pinned here by the verifier; nothing in a receipt
or a code can add to it. What the ledger's authority has changed since comes in by renewal
(``ledger.trust_renewal``), what the verifier asks for beyond that stays. Format: docs/format.md, section
Trust file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from ledger.canonical_json import Json, Reader, base64_text, encode, parse, u64_text
from ledger.changes import MAX_POLICY
from ledger.checkpoints import Checkpoint, SignedCheckpoint, check_origin, open_checkpoint, parse_checkpoint
from ledger.cosignatures import verify_cosignatures
from ledger.errors import CheckpointUntrusted, FormatError, ProofInvalid, TrustFormatError
from ledger.hashing import HASH_SIZE
from ledger.notes import SignatureType, VerifierKey, known_signatures, parse_note
from ledger.registry_records import (
    MAX_LEDGER_KEYS,
    ClosedRecord,
    History,
    LedgerRecord,
    read_history,
    read_policy,
)
from ledger.witness_policy import WitnessPolicy, parse_policy

MAX_TRUST: Final = 1 << 20
_FORMAT: Final = "sudur-trust/v1"


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A log key that signs sizes above ``added``, the index of its change, up to ``last_size`` (None: any).

    So an ML-DSA-44 signature is asked of checkpoints that were made since the log has such a key.
    """

    key: VerifierKey
    last_size: int | None = None
    added: int = 0

    def may_sign(self, size: int) -> bool:
        return self.added < size and (self.last_size is None or size <= self.last_size)

    def to_json(self) -> Json:
        last = None if self.last_size is None else u64_text(self.last_size)
        return {"vkey": self.key.format(), "last_size": last, "added": u64_text(self.added)}

    @classmethod
    def from_json(cls, reader: Reader) -> TrustedKey:
        key = cls(
            VerifierKey.parse(reader.text("vkey", limit=4096)),
            reader.optional_u64("last_size"),
            reader.u64("added"),
        )
        reader.done()
        return key


@dataclass(frozen=True, slots=True)
class SeenHead:
    """The newest head that the trust file was renewed by: what came before is not newer than this."""

    size: int
    root: bytes
    time_ms: int

    def to_json(self) -> Json:
        return {
            "size": u64_text(self.size),
            "root": base64_text(self.root),
            "time_ms": u64_text(self.time_ms),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> SeenHead:
        head = cls(reader.u64("size"), reader.data("root", size=HASH_SIZE), reader.u64("time_ms"))
        reader.done()
        return head


@dataclass(frozen=True, slots=True)
class TrustedLedger:
    """One ledger: its G, its origin, its log keys, and whose cosignatures are asked for.

    ``witness_policy``: the authority's C2SP policies by index; a checkpoint must meet the one in force at its
    size. ``own_policy``: one more, which the verifier asks of every checkpoint; "" for none. Where both are
    empty no witness is asked for: then the operator's word is all there is until an auditor looks.
    ``changed``: the last change of the ledger record that this rests on.
    """

    genesis: bytes
    origin: str
    log_keys: tuple[TrustedKey, ...]
    witness_policy: History[str]
    training: bool
    own_policy: str = ""
    changed: int = 0
    head: SeenHead | None = None
    closed: ClosedRecord | None = None

    @property
    def end(self) -> int | None:
        """The size at which the log ends for good; None while some key of Ed25519 may sign on."""
        needed = [one for one in self.log_keys if one.key.type is SignatureType.ED25519]
        if self.closed is None or any(one.last_size is None for one in needed):
            return None
        return max((one.last_size or 0 for one in needed), default=None)

    def is_final(self, size: int) -> bool:
        """Whether this is the last head there will ever be, and was seen: its root is pinned then."""
        return self.head is not None and size == self.head.size == self.end

    @classmethod
    def founded(
        cls,
        genesis: bytes,
        origin: str,
        keys: Iterable[VerifierKey],
        policy: str = "",
        training: bool = False,
    ) -> TrustedLedger:
        """What is pinned of a ledger as its genesis made it."""
        return cls(genesis, origin, tuple(map(TrustedKey, keys)), History.start(0, policy), training)

    def with_replayed(self, record: LedgerRecord) -> TrustedLedger:
        """What is trusted by somebody who has replayed the log, by the rules and from G, up to this record.

        What this knew already stays known: it may be ahead of the replay.
        """
        keys = {one.key.format(): one for one in self.log_keys}
        for listed in record.log_keys:
            known = keys.get(listed.vkey)
            if known is None or known.last_size is None:
                keys[listed.vkey] = TrustedKey(VerifierKey.parse(listed.vkey), listed.last_size, listed.added)
        policy = record.witness_policy if record.changed > self.changed else self.witness_policy
        return replace(self, log_keys=tuple(keys.values()), witness_policy=policy)

    def keys_at(self, size: int) -> tuple[VerifierKey, ...]:
        """The log keys that may sign a checkpoint of ``size``."""
        return tuple(one.key for one in self.log_keys if one.may_sign(size))

    def open(self, note: bytes) -> SignedCheckpoint:
        """A checkpoint of this log, signed by a key that may sign its size: the one way to open one by trust.

        Costs as :func:`open_checkpoint`. Whether it is witnessed, :meth:`witnessed` says. Raises
        CheckpointUntrusted, SignatureInvalid, NoteFormatError, TooLarge; ProofInvalid for another root than
        the one that was seen for this size.
        """
        size = parse_checkpoint(parse_note(note).text).size
        try:
            signed = open_checkpoint(note, self.origin, self.keys_at(size))
        except CheckpointUntrusted as error:
            raise self._ended(note, size) or error from None
        self._check_root(signed.checkpoint)
        return signed

    def _ended(self, note: bytes, size: int) -> CheckpointUntrusted | None:
        ended = [one for one in self.log_keys if one.last_size is not None and size > one.last_size]
        if not known_signatures(parse_note(note), [one.key for one in ended]):
            return None
        return CheckpointUntrusted(
            f"the log key that signed it had ended before: it might sign up to"
            f" {max(one.last_size or 0 for one in ended)} leaves, these are {size}",
            where="checkpoint",
            fix="do not accept it, and report it: whoever made it has a key that was retired",
        )

    def _check_root(self, found: Checkpoint) -> None:
        if self.head is not None and found.size == self.head.size and found.root != self.head.root:
            raise ProofInvalid(
                f"it has another root of {found.size} leaves than the one seen before",
                where="checkpoint",
                fix="keep both and report it: one of the two is of a history that was made up",
            )

    def check_time(self, size: int, time_ms: int) -> None:
        """Whether a seal's time fits the head that was seen: times rise with sizes. Raises ProofInvalid.

        So a key that has ended, in whosever hands, makes nothing that looks newer than the last renewal.
        """
        head = self.head
        if head is None or (size > head.size) == (time_ms > head.time_ms):
            return
        raise ProofInvalid(
            f"{size} leaves are sealed at a time that does not fit the {head.size} that were seen before",
            where="checkpoint",
            fix="do not accept it, and report it",
        )

    def policies_at(self, size: int) -> tuple[WitnessPolicy, ...]:
        """The policies that a checkpoint of ``size`` must meet, all of them; those that ask for somebody."""
        texts = (self.witness_policy.at(max(size - 1, 0)), self.own_policy)
        parsed = [parse_policy(text.encode("utf-8")) for text in texts if text]
        return tuple(policy for policy in parsed if policy.quorum is not None)

    def witnessed(
        self, signed: SignedCheckpoint, *, now_s: int | None, greatest_age_s: int | None
    ) -> int | None:
        """Raise PolicyUnmet unless the policies for its size are met: the one way to judge cosignatures.

        Returns since when (seconds since 1970), the earlier time of two policies, or None when no witness
        is asked for: then nothing was judged, the age neither. Arguments as of
        :meth:`WitnessPolicy.check`. Raises SignatureInvalid too.
        """
        times = []
        for policy in self.policies_at(signed.checkpoint.size):
            cosignatures = verify_cosignatures(signed.note, policy.witness_keys)
            times.append(policy.check(cosignatures, now_s=now_s, greatest_age_s=greatest_age_s))
        return min((one for one in times if one is not None), default=None)

    def to_json(self) -> Json:
        return {
            "genesis": base64_text(self.genesis),
            "origin": self.origin,
            "log_keys": [key.to_json() for key in self.log_keys],
            "witness_policy": self.witness_policy.to_json(str),
            "own_policy": self.own_policy,
            "training": self.training,
            "changed": u64_text(self.changed),
            "head": None if self.head is None else self.head.to_json(),
            "closed": None if self.closed is None else self.closed.to_json(),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> TrustedLedger:
        keys = tuple(TrustedKey.from_json(one) for one in reader.members("log_keys", limit=MAX_LEDGER_KEYS))
        if not keys:
            raise FormatError("one or more verifier keys are expected", where=reader.at("log_keys"))
        head, closed = reader.optional_member("head"), reader.optional_member("closed")
        ledger = cls(
            reader.data("genesis", size=32),
            reader.text("origin"),
            keys,
            read_history(reader, "witness_policy", read_policy),
            reader.flag("training"),
            reader.text("own_policy", limit=MAX_POLICY, empty=True),
            reader.u64("changed"),
            None if head is None else SeenHead.from_json(head),
            None if closed is None else ClosedRecord.from_json(closed),
        )
        reader.done()
        check_origin(ledger.origin)
        for key in ledger.log_keys:
            if key.key.name != ledger.origin or key.key.type is SignatureType.ED25519_COSIGNATURE:
                raise FormatError(
                    f"the key {key.key.name} cannot sign for {ledger.origin}", where=reader.at("log_keys")
                )
        if len({one.key for one in ledger.log_keys}) != len(ledger.log_keys):
            raise FormatError("a log key stands twice", where=reader.at("log_keys"))
        if ledger.witness_policy.entries[0][0] != 0:
            raise FormatError("the first policy is that of the genesis", where=reader.at("witness_policy"))
        for text in (*(one for _, one in ledger.witness_policy.entries), ledger.own_policy):
            if text:
                parse_policy(text.encode("utf-8"))
        return ledger


@dataclass(frozen=True, slots=True)
class Trust:
    """The ledgers that a verifier believes; at most 64."""

    ledgers: tuple[TrustedLedger, ...]

    def ledger(self, genesis: bytes) -> TrustedLedger:
        """The trusted ledger with this G. Raises CheckpointUntrusted when there is none."""
        for one in self.ledgers:
            if one.genesis == genesis:
                return one
        raise CheckpointUntrusted(
            f"ledger {genesis.hex()[:16]} is not in the trust file",
            fix="it is of another ledger; a trust file comes from its authority, never from the document",
        )

    def encode(self) -> bytes:
        return encode({"format": _FORMAT, "ledgers": [one.to_json() for one in self.ledgers]})


def parse_trust(data: bytes) -> Trust:
    """Read a trust file; one newline at its end is allowed. Raises TrustFormatError."""
    try:
        reader = Reader(parse(data.removesuffix(b"\n"), limit=MAX_TRUST, where="trust file"), "trust")
        if reader.text("format") != _FORMAT:
            raise FormatError(f"is not {_FORMAT}", where=reader.at("format"))
        ledgers = tuple(TrustedLedger.from_json(one) for one in reader.members("ledgers", limit=64))
        reader.done()
    except FormatError as error:
        raise TrustFormatError(error.what, where=error.where, fix=error.fix) from error
    if len({one.genesis for one in ledgers}) != len(ledgers):
        raise TrustFormatError("a ledger stands twice", where="trust.ledgers")
    return Trust(ledgers)
