"""Sealing to a registered key, opening with the files of old and new keys, and the client's three calls."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ledger import changes
from ledger import errors as core
from ledger.changes import Subject
from ledger.documents import Document, Field
from ledger.envelope_bodies import Letter, Reply, ReplyOutcome, letter_plaintext
from ledger.envelopes import Attachment, Envelope, digest_of
from ledger.errors import (
    DocumentFormatError,
    EnvelopeWrongDigest,
    EnvelopeWrongKey,
    EnvelopeWrongLedger,
    EnvelopeWrongRecipient,
    EnvelopeWrongSender,
    FormatError,
)
from ledger.leaves import NONE
from ledger.proven_registry import ProvenRegistry
from ledger.records import Answer, Outcome, Send, SendKind
from ledger.registry_records import KeyRecord, Theft
from ledger.signatures import Algorithm
from tests.ledger.issued import Issued
from tests.node.letters import Post, add_envelope_key
from tests.node.served import Served, serve
from tests.tools.helpers import CHEAP
from tools import errors
from tools.client import EnvelopeAccess, LedgerClient
from tools.errors import NoEnvelopeKey
from tools.keyfile import KeyFile, PrivateKey, PublicKey, make_key, save_key
from tools.letters.envelopes import (
    Addressee,
    find_addressee,
    seal_letter,
    seal_reply,
    unseal_letter,
    unseal_reply,
)
from tools.signing import NumberedSigner

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "envelopes.json").read_text())
GENESIS = bytes.fromhex(VECTORS["genesis"])
SEED = bytes(range(16))


def record(key: PrivateKey, agency: int = 2, number: int = 1, **more: Any) -> KeyRecord:
    public = key.public
    return KeyRecord(agency, number, public.algorithm, public.key, public.use, "", 5, ((0, 1),), **more)


@pytest.fixture(scope="module")
def old() -> PrivateKey:
    return make_key("envelope", "old")


@pytest.fixture(scope="module")
def new() -> PrivateKey:
    return make_key("envelope", "new")


LETTER = Letter(
    Document.build(1, 0, [Field.text("holder", "زينب"), Field.file("scan", digest_of(b"scan"))]),
    SEED,
    (Attachment("scan", b"scan"),),
)


# --- known answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["envelopes"], ids=lambda case: case["desc"])
def test_known_answers(case: dict[str, Any], new: PrivateKey) -> None:
    data = bytes.fromhex(case["envelope"]).ljust(case["size"], b"\0")
    inner = VECTORS["plaintexts"][0]
    send = Send(
        VECTORS["sender"],
        VECTORS["recipient"],
        bytes.fromhex(inner["commitment"]),
        SendKind.REQUEST,
        0,
        NONE,
        bytes.fromhex(case["digest"]),
    )
    key = PrivateKey(new.public, bytes.fromhex(VECTORS["secret_key"]))
    if case["want"] == "opened":
        letter = unseal_letter(data, send, GENESIS, [new, key])
        _, plaintext = letter_plaintext(letter, GENESIS, send.recipient)
        assert plaintext.rstrip(b"\0").hex() == inner["plaintext"]
        return
    with pytest.raises(core.SudurError) as caught:
        unseal_letter(data, send, GENESIS, [new, key])
    assert caught.value.code == case["want"]


# --- sealing -----------------------------------------------------------------------------------


def test_a_letter_there_and_a_reply_back(tmp_path: Path, old: PrivateKey, new: PrivateKey) -> None:
    for name, key in (("old", old), ("new", new)):
        save_key(tmp_path / name, key, "secret", CHEAP)
    files = [KeyFile(tmp_path / name).open("secret") for name in ("new", "old")]
    for key, number in ((old, 1), (new, 2)):
        sealed = seal_letter(LETTER, GENESIS, Addressee(2, record(key, number=number)))
        assert sealed.data != seal_letter(LETTER, GENESIS, Addressee(2, record(key, number=number))).data
        assert Envelope.decode(sealed.data).key_number == number
        send = Send(1, 2, sealed.commitment, SendKind.REQUEST, 0, NONE, sealed.digest)
        assert unseal_letter(sealed.data, send, GENESIS, files) == LETTER
    reply = Reply(ReplyOutcome.DIFFERS, SEED, "الاسم مختلف")
    back = seal_reply(reply, GENESIS, 2, Addressee(1, record(new, agency=1)))
    answer = Answer(2, 40, Outcome.ANSWERED, back.commitment, back.digest)
    assert unseal_reply(back.data, answer, send, GENESIS, files) == reply


def test_a_successors_key_opens_what_was_sent_to_the_old_body(new: PrivateKey) -> None:
    to = Addressee(2, record(new, agency=9), successors=(5, 9))
    sealed = seal_letter(LETTER, GENESIS, to)
    assert Envelope.decode(sealed.data).recipient == 9
    send = Send(1, 2, sealed.commitment, SendKind.REQUEST, 0, NONE, sealed.digest)
    assert unseal_letter(sealed.data, send, GENESIS, [new]) == LETTER
    with pytest.raises(EnvelopeWrongRecipient):
        seal_letter(LETTER, GENESIS, replace(to, successors=(5,)))


def test_keys_that_nothing_is_sealed_to(new: PrivateKey) -> None:
    submit = make_key("submit", "desk")
    for key, kind in (
        (record(new, ended=9), core.KeyEnded),
        (record(new, stolen=Theft(6, 9)), core.KeyStolen),
        (record(submit), core.KeyUse),
    ):
        with pytest.raises(kind):
            seal_letter(LETTER, GENESIS, Addressee(2, key))


@pytest.fixture
def world() -> Issued:
    """Agency 1, and agencies 2 to 5 without keys."""
    made = Issued()
    while len(made.world.state.registry.agencies) < 5:
        made.world.enrol(submit=0)
    return made


def add_key(world: Issued, agency: int) -> KeyRecord:
    number = len(world.world.state.registry.agency(agency).keys) + 1
    public = make_key("envelope", "post").public.key
    added = (changes.NewKey(number, Algorithm.X25519, public, "envelope", ""),)
    world.world.change(Subject("agency", agency), changes.KeysAdded(added))
    return world.world.state.registry.agency(agency).keys[-1]


def found(world: Issued, agency: int) -> Addressee:
    static = world.static()
    return find_addressee(ProvenRegistry(static, world.trusted(), static.checkpoint), agency)


def test_the_newest_key_that_is_in_use(world: Issued) -> None:
    change = world.world.change
    keys = [add_key(world, 2) for _ in range(3)]
    world.world.add_keys(2, ["submit"])
    assert found(world, 2) == Addressee(2, keys[2])
    change(Subject("agency", 2), changes.KeyEnded(3))
    assert found(world, 2).key == keys[1]
    change(Subject("agency", 2), changes.KeyStolen(2, keys[1].added))
    assert found(world, 2).key == keys[0]
    change(Subject("agency", 2), changes.KeyEnded(1))
    with pytest.raises(NoEnvelopeKey, match="agency 2 has no key"):
        found(world, 2)
    with pytest.raises(core.UnknownAgency):
        found(world, 99)


def test_the_last_successor_that_has_a_key(world: Issued) -> None:
    for old, new in ((2, 3), (3, 4), (4, 5)):
        world.world.change(Subject("agency", old), changes.SuccessorNamed(new))
    own = add_key(world, 2)
    assert found(world, 2) == Addressee(2, own, (3, 4, 5))
    heirs = add_key(world, 4)
    assert found(world, 2) == Addressee(2, heirs, (3, 4, 5))
    assert found(world, 4) == Addressee(4, heirs, (5,))
    sealed = seal_letter(LETTER, GENESIS, found(world, 2))
    assert Envelope.decode(sealed.data).recipient == 4


def test_a_key_that_the_log_does_not_have_is_not_sealed_to(world: Issued, new: PrivateKey) -> None:
    """A server that slips in a record of its own, to read along, is found out by the record's hash."""
    honest = add_key(world, 2)
    static = world.static()
    forged = replace(honest, public_key=new.public.key).encode()
    (place,) = [path for path, body in static.files.items() if body == honest.encode()]
    static.files[place] = forged
    with pytest.raises((core.ProofInvalid, core.FormatError)):
        find_addressee(ProvenRegistry(static, world.trusted(), static.checkpoint), 2)


def test_text_that_is_not_composed_is_refused_where_it_is_written(new: PrivateKey) -> None:
    reply = Reply(ReplyOutcome.DENIED, SEED, "e\u0301")
    with pytest.raises(DocumentFormatError, match="NFC"):
        seal_reply(reply, GENESIS, 2, Addressee(1, record(new, agency=1)))


# --- opening -----------------------------------------------------------------------------------


def test_what_does_not_belong_to_the_record_is_not_opened(old: PrivateKey, new: PrivateKey) -> None:
    sealed = seal_letter(LETTER, GENESIS, Addressee(2, record(new)))
    send = Send(1, 2, sealed.commitment, SendKind.CIRCULATED, 0, NONE, sealed.digest)
    with pytest.raises(EnvelopeWrongDigest):
        unseal_letter(sealed.data, replace(send, envelope=bytes(32)), GENESIS, [new])
    with pytest.raises(EnvelopeWrongKey, match="key 1 of agency 2"):
        unseal_letter(sealed.data, send, GENESIS, [old, make_key("submit", "desk")])
    with pytest.raises(EnvelopeWrongLedger):
        unseal_letter(sealed.data, send, bytes(32), [new])
    # Somebody else logs another's envelope as their own: the sealed sender says whose it is.
    with pytest.raises(EnvelopeWrongSender, match="agency 1"):
        unseal_letter(sealed.data, replace(send, agency=3), GENESIS, [new])
    with pytest.raises(EnvelopeWrongRecipient):
        unseal_letter(sealed.data, replace(send, recipient=3), GENESIS, [new])
    answer = Answer(2, 7, Outcome.ANSWERED, sealed.commitment, sealed.digest)
    with pytest.raises(EnvelopeWrongSender):
        unseal_reply(sealed.data, answer, send, GENESIS, [new])
    with pytest.raises(FormatError):
        unseal_letter(b"", send, GENESIS, [new])


def test_a_key_of_small_order_seals_nothing(new: PrivateKey) -> None:
    weak = replace(new, public=PublicKey(Algorithm.X25519, bytes(32), "envelope", "weak"))
    with pytest.raises(core.FormatError):
        seal_letter(LETTER, GENESIS, Addressee(2, record(weak)))


# --- the client --------------------------------------------------------------------------------


@dataclass
class Office:
    """A node on a thread of its own, for a client that blocks."""

    served: Served
    post: Post
    key: int


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    ready: list[Office] = []
    up, done = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        async with serve(tmp_path_factory.mktemp("node") / "data") as served:
            await served.enrol()
            key = await add_envelope_key(served, 2)
            ready.append(Office(served, Post(served, 1, 2, key), key))
            up.set()
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert up.wait(30)
    yield ready[0]
    loop.call_soon_threadsafe(done.set)
    thread.join()
    loop.close()


def access(office: Office, agency: int) -> EnvelopeAccess:
    return EnvelopeAccess(agency, NumberedSigner(1, office.served.keys[agency][1]))


def test_put_get_drop(office: Office) -> None:
    envelope, genesis = office.post.sealed(), office.served.genesis
    with LedgerClient(str(office.served.node.grpc)) as client:
        digest = client.put_envelope(genesis, access(office, 1), envelope)
        assert digest == digest_of(envelope)
        assert client.get_envelope(genesis, access(office, 2), digest) == envelope
        with pytest.raises(core.NotEntitled):
            client.drop_envelope(genesis, access(office, 1), digest)
        assert client.drop_envelope(genesis, access(office, 2), digest)
        assert not client.drop_envelope(genesis, access(office, 2), digest)
        with pytest.raises(errors.NotFound):
            client.get_envelope(genesis, access(office, 2), digest)
        with pytest.raises(core.EnvelopeFormatError):
            client.put_envelope(genesis, access(office, 1), envelope[:-1])
        with pytest.raises(core.TooLarge):
            client.put_envelope(genesis, access(office, 1), envelope + bytes(65_536))
        with pytest.raises(core.WrongLedger):
            client.put_envelope(bytes(32), access(office, 1), envelope)
        stranger = EnvelopeAccess(2, access(office, 1).key)
        with pytest.raises(core.SignatureInvalid):
            client.get_envelope(genesis, stranger, digest)


def test_a_clock_that_is_wrong_is_named(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = time.time_ns()
    envelope = office.post.sealed()
    with LedgerClient(str(office.served.node.grpc)) as client, monkeypatch.context() as patched:
        patched.setattr("tools.client._now_ms", lambda: now_ns // 1_000_000 + 3_600_000)
        with pytest.raises(core.ClaimedTimeOutsideWindow, match="clock"):
            client.put_envelope(office.served.genesis, access(office, 1), envelope)
