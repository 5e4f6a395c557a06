"""The rules on one core: ``python -m benchmarks.rules``. Half a minute; 0.5 GB.

A ledger of bulk issuances, and one of all records mixed, are built in memory and replayed from their
leaves alone, as an auditor does: every signature, every records root, every duplicate, every seal. The
reader is a dictionary, so what is measured is the rules and not a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from benchmarks.report import Row, best, markdown
from ledger import rules
from ledger.records import MAX_RECORDS, Status
from ledger.signatures import Ed25519Signer, verify_ed25519
from ledger.submissions import Submission, open_submission, pack
from tests.ledger.world import (
    MemoryReader,
    World,
    answer,
    attest,
    issue,
    send,
    sign_submission,
    status,
)

ROUNDS = 5
BULKS = 1_024
BULKS_A_BLOCK = 64
SMALL = 4_096
MIXED = 256
EACH = 64
"""Of each kind of record in a mixed submission."""

Blocks = list[tuple[bytes, ...]]


class FreshReader(MemoryReader):
    """A reader that knows no document yet: the look-up costs next to nothing."""

    def find_issues(self, keys: Sequence[bytes]) -> list[int | None]:
        return [None] * len(keys)


def run() -> list[Row]:
    """Measure everything; the rows in the order of the table."""
    bulk, small, mixed = _world(), _world(), _world()
    wire = _fill(bulk, BULKS, MAX_RECORDS)
    _fill(small, SMALL, 1)
    _correspond(mixed)
    return [
        _replay_row("replay of all rules, 256 documents a signature", bulk.blocks, "≥ 250,000 leaves/s"),
        _replay_row("replay of all rules, a signature for each document", small.blocks, ""),
        _replay_row("replay of ISSUE, ATTEST, STATUS, SEND and ANSWER, mixed", mixed.blocks, ""),
        *_step_rows(bulk, wire),
    ]


def _world() -> World:
    world = World()
    world.define_type()
    world.enrol(types=(0, 1))
    return world


def _fill(world: World, submissions: int, records: int) -> list[tuple[bytes, bytes]]:
    """Put that many submissions into blocks; returns the first block's, as they travel."""
    wire: list[tuple[bytes, bytes]] = []
    for start in range(0, submissions, BULKS_A_BLOCK):
        draft = world.begin()
        for number in range(start, start + BULKS_A_BLOCK):
            leaves = [issue(1, f"{number} {i}") for i in range(records)]
            leaf = sign_submission(world.genesis, 1, leaves, draft.time_ms, {1: world.keys[1][1]})
            packed = pack(leaves)
            draft.add_submission(open_submission(leaf, packed))
            if start == 0:
                wire.append((leaf, packed))
        world.seal(draft)
    return wire


def _correspond(world: World) -> None:
    """Each submission issues, attests and suspends what the last one issued, asks, and is answered."""
    world.enrol(roles=("attest", "issue", "request"), types=(0, 1))
    documents = range(0)
    for number in range(MIXED):
        draft = world.begin()
        fresh = [issue(2, f"{number} {i}") for i in range(EACH)]
        changed = [attest(2, one) for one in documents]
        changed += [status(2, one, one, Status.SUSPENDED) for one in documents]
        first = world.submit(2, [*fresh, *changed, *[send(2, 1) for _ in range(EACH)]], draft=draft) + 1
        documents = range(first, first + EACH)
        world.submit(1, [answer(1, draft.next_index - 1 - n) for n in range(EACH)], draft=draft)
        world.seal(draft)


def _replay_row(name: str, blocks: Blocks, target: str) -> Row:
    def replay() -> None:
        reader = MemoryReader()
        for leaves in blocks:
            # What MemoryReader.apply asserts would be measured, too: keep what the rules ask for.
            transition = rules.apply(reader.state, reader, leaves)
            reader.issues.update(transition.issues)
            reader.submissions.update(transition.submissions)
            reader.daily.update(transition.daily)
            reader.leaves += transition.leaves
            reader.statuses.update(transition.statuses)
            reader.chunks.update(transition.status_chunks)
            reader.attests.update(transition.attests)
            reader.exchanges.update(transition.exchanges)
            reader.state = transition.state

    leaves = [leaf for block in blocks for leaf in block]
    signatures = sum(leaf[1] == 0x20 for leaf in leaves)
    seconds = best(replay, ROUNDS)
    bare = best(lambda: [sha256(b"\x00" + leaf).digest() for leaf in leaves], ROUNDS)
    bare += signatures * _signature_seconds()
    return Row(
        name,
        len(leaves) / seconds,
        "leaves/s",
        f"bare leaf hashes and signatures, {len(leaves) / bare:,.0f} leaves/s",
        seconds / bare,
        target,
    )


def _signature_seconds() -> float:
    key, message = Ed25519Signer(bytes(32)), bytes(150)
    signature = key.sign(message)

    def verify() -> None:
        for _ in range(200):
            verify_ed25519(key.public_key, message, signature)

    return best(verify, ROUNDS) / 200


def _step_rows(world: World, wire: list[tuple[bytes, bytes]]) -> list[Row]:
    """What the sequencer pays for each document: opening may run beside a commit, adding not."""
    documents = len(wire) * MAX_RECORDS
    opened: list[Submission] = [open_submission(leaf, packed) for leaf, packed in wire]
    base = _world()
    reader = FreshReader()
    reader.__dict__.update(base.reader.__dict__)

    def add() -> None:
        draft = rules.begin(base.state, reader, base.state.time_ms + 1000)
        for submission in opened:
            draft.add_submission(submission)

    assert base.genesis == world.genesis, "the submissions are for this very ledger"
    open_all = best(lambda: [open_submission(leaf, packed) for leaf, packed in wire], ROUNDS) / documents
    add_all = best(add, ROUNDS) / documents
    signature = _signature_seconds()
    return [
        Row("opening a submission of 256, a document", open_all * 1e6, "µs", target="≤ 1.6 µs"),
        Row(
            "adding it to a draft, a document",
            add_all * 1e6,
            "µs",
            f"of it the signature, {signature / MAX_RECORDS * 1e6:.2f} µs",
        ),
        Row(
            "adding it to a draft, without the signature",
            (add_all - signature / MAX_RECORDS) * 1e6,
            "µs",
            target="≤ 0.8 µs",
        ),
    ]


if __name__ == "__main__":
    print(markdown(run()), end="")
