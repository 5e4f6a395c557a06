"""Before the first signature after a start: what have the witnesses seen of this log?

A disk that was rolled back together with its mark, as by a snapshot of the whole machine, looks whole from
within; so does a copy of a node that still runs elsewhere. What such a node signed would fork the log, for
good. The witnesses know better, and ``add-checkpoint`` is all that they speak. So they are shown a
checkpoint that this log *has signed already*, the newest there is here, and no new signature is made to
learn the answer:

- it is cosigned, once more or for the first time: they have seen nothing that is not here;
- 409 with a smaller size: the same checkpoint again, with a proof from there;
- 409 with a larger size: more was signed than is here;
- 422: another history was signed than is here.

The last two stop the start. Whoever cannot be reached says neither. The start waits for enough of them: those
who were not heard must not have been enough, by themselves, to publish what this node knows nothing of. An
operator may name witnesses that are not waited for, and not believed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import structlog

from ledger.checkpoints import parse_checkpoint
from ledger.cosignatures import Cosignature, verify_cosignatures
from ledger.errors import SudurError
from ledger.notes import Note, parse_note
from ledger.registry_records import LedgerRecord
from ledger.witness_policy import Witness, WitnessPolicy
from node.cosigning.answers import Cosigned, Failed, HasSize, Trouble
from node.cosigning.link import WitnessLink
from node.cosigning.policies import meets, policy_at
from node.cosigning.settings import CosigningSettings, is_url
from node.errors import WitnessesAhead, WitnessesSilent
from node.proofs import Proofs

_log: Final = structlog.get_logger("node.cosigning")
_GRACE_S: Final = 1.0
"""For those who were not heard when enough were: an alarm of theirs counts, too."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is here: the newest checkpoint that was signed, without cosignatures, and the tree's size.

    ``may_lack``: whether more may have been signed than ``note``, up to ``size``. So it is in a cluster,
    where another member signed, and never on a node alone, whose mark has every signature first.
    """

    note: bytes
    size: int
    record: LedgerRecord
    may_lack: bool = False


def check_witnesses(held: Held, proofs: Proofs, settings: CosigningSettings) -> None:
    """Return once it is safe to sign, as far as witnesses can tell. Blocks, at most ``patience_s``.

    Raises WitnessesAhead, WitnessesSilent, NodeError for a CA file that cannot be used.
    """
    policy = policy_at(held.record, held.size)
    if policy is None:
        return
    places: dict[str, list[Witness]] = {}
    for one in policy.witnesses:
        url = settings.urls.get(one.name, one.url)
        if is_url(url) and one.name not in settings.without:
            places.setdefault(url, []).append(one)
    if not places:
        return
    # A loop of its own, on a thread of its own: whoever starts a node may have one running.
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(asyncio.run, _ask_all(held, policy, places, proofs, settings)).result()
    silent: list[Witness] = []
    for url, failed in answers.items():
        names = ", ".join(one.name for one in places[url])
        if failed is None:
            continue
        if failed.trouble.is_alarm:
            raise WitnessesAhead(
                f"the witness {names} stops the first signature: {failed.what}",
                where="witnesses",
                fix="this is an older copy of the ledger, or a second one: find the newest, and start that"
                " (docs/operations.md). If the witness is known to be wrong: --without-witness NAME",
            )
        _log.warning("witness_not_heard", witness=names, trouble=str(failed.trouble), what=failed.what)
        silent += places[url]
    if meets(policy, [Cosignature(one.key, 0) for one in silent]):
        raise WitnessesSilent(
            f"{', '.join(one.name for one in silent)} did not answer, and may have seen more of this log than"
            " is here",
            where="witnesses",
            fix="see to the line, and start again; or, if this is surely the newest copy, and no other runs:"
            " --without-witness NAME for each",
        )


async def _ask_all(
    held: Held,
    policy: WitnessPolicy,
    places: Mapping[str, Sequence[Witness]],
    proofs: Proofs,
    settings: CosigningSettings,
) -> dict[str, Failed | None]:
    """What each has against a signature. Once enough were heard, or one objects, the rest gets a moment."""
    context = settings.context()
    tasks = {
        asyncio.create_task(_until_heard(held, url, who, proofs, settings, context)): url
        for url, who in places.items()
    }
    answers: dict[str, Failed | None] = dict.fromkeys(places, Failed(Trouble.SILENT, "no answer so far"))
    pending = set(tasks)
    while pending:
        silent = [one for url, failed in answers.items() if failed is not None for one in places[url]]
        objects = any(one is not None and one.trouble.is_alarm for one in answers.values())
        enough = objects or not meets(policy, [Cosignature(one.key, 0) for one in silent])
        done, pending = await asyncio.wait(
            pending, timeout=_GRACE_S if enough else None, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            break
        for task in done:
            answers[tasks[task]] = task.result()
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return answers


async def _until_heard(
    held: Held,
    url: str,
    witnesses: Sequence[Witness],
    proofs: Proofs,
    settings: CosigningSettings,
    context: ssl.SSLContext,
) -> Failed | None:
    """What one witness has against a signature; None for nothing."""
    loop = asyncio.get_running_loop()
    until = loop.time() + settings.patience_s
    pause = settings.first_pause_s
    async with WitnessLink(url, context, settings.timeout_s) as link:
        while True:
            failed = await _ask(held, link, witnesses, proofs)
            if failed is None or failed.trouble.is_alarm or loop.time() + pause >= until:
                return failed
            await asyncio.sleep(max(pause, failed.again_s))
            pause = min(2 * pause, settings.longest_pause_s)


async def _ask(held: Held, link: WitnessLink, witnesses: Sequence[Witness], proofs: Proofs) -> Failed | None:
    text = parse_note(held.note).text
    size = parse_checkpoint(text).size
    old = size
    for _ in range(3):
        match await link.add(held.note, size, old, proofs):
            case Cosigned(signatures):
                try:
                    found = verify_cosignatures(Note(text, signatures), [one.key for one in witnesses])
                except SudurError as error:
                    return Failed(Trouble.WRONG, f"its cosignature does not verify: {error}")
                return None if found else Failed(Trouble.WRONG, "it cosigned with no key of the policy")
            case HasSize(known) if known <= size:
                old = known
            case HasSize(known) if held.may_lack and known <= held.size:
                return None
            case HasSize(known):
                return Failed(
                    Trouble.AHEAD, f"it has cosigned {known} leaves of this log, {size} were signed here"
                )
            case Failed(trouble=Trouble.UNKNOWN_LOG):
                return None  # it never saw anything
            case Failed(trouble=Trouble.OLD_SEAL | Trouble.AUDITING):
                # What it saw, this extends: it has looked at the proof first. And the audit may have to wait
                # for this very node, which serves nothing before it has started.
                return None
            case Failed() as failed:
                return failed
    return Failed(Trouble.WRONG, f"it names one size after the other, at last {old}")
