"""What the agency's monitor has to say: in words for an officer, as JSON for a script.

Every alarm comes with what to do next, as commands that can be given as they stand. Text from outside is
made safe for the terminal; stable codes are in the JSON, and in brackets in the text.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ledger.canonical_json import Json
from tools.describe import moment
from tools.monitor.findings import Finding, Level, Standing
from tools.monitor.habits import HOUR_MS
from tools.monitor.monitor import Reading
from tools.ui import printable, quoted

_SHOWN: Final = 20
_LOG_CODES: Final = ("LOG_ROLLED_BACK", "LOG_FORKED", "LOG_DIFFERS")


class Where:
    """The directory and the node that commands to be given next name."""

    def __init__(self, directory: Path, node: str) -> None:
        self.dir = shlex.quote(printable(str(directory)))
        self.node = shlex.quote(node)


def report_json(reading: Reading, where: Where) -> Json:
    """The whole reading. ``outcome``: ``agrees``, or ``alarm`` as long as one is open."""
    return {
        "outcome": "alarm" if reading.alarms else "agrees",
        "complete": reading.complete,
        "agency": reading.agency,
        "origin": reading.origin,
        "from": str(reading.start),
        "size": str(reading.size),
        "root": reading.root.hex(),
        "sealed_ms": reading.sealed_ms,
        "agreed_ms": reading.agreed_ms,
        "agreed_before_ms": reading.agreed_before_ms,
        "read": {
            "leaves": reading.tally.leaves,
            "submissions": reading.tally.submissions,
            "records": reading.tally.records,
        },
        "attested": [
            {"agency": agency, "count": count}
            for agency, count in sorted((reading.tally.attested or {}).items())
        ],
        "alarms": [_finding_json(one) for one in reading.alarms],
        "warnings": [_finding_json(one) for one in _new(reading, Level.WARNING)],
        "notes": [_finding_json(one) for one in _new(reading, Level.NOTE)],
        "acknowledged": [_finding_json(one) for one in _acknowledged(reading)],
        "next": next_steps(reading, where),
    }


def report_lines(reading: Reading, where: Where) -> list[str]:
    """The reading for an officer: whether all is well, what is not, what to do, what else happened."""
    lines = [_headline(reading), *_extent(reading)]
    alarms = reading.alarms
    if alarms:
        lines += ["", *_unknown_lines([one for one in alarms if one.code == "UNKNOWN_SUBMISSION"])]
        for one in [one for one in alarms if one.code != "UNKNOWN_SUBMISSION"][:_SHOWN]:
            lines += _alarm_lines(one)
        steps = next_steps(reading, where)
        lines += ["", "What to do next:", *(f"  {step}" for step in steps)]
    for title, level in (("Unusual:", Level.WARNING), ("To be known:", Level.NOTE)):
        some = _new(reading, level)
        if some:
            lines += ["", title, *(f"  {line}" for one in some[:_SHOWN] for line in _words(one))]
            lines += _more(some)
    attested = sorted((reading.tally.attested or {}).items())
    if attested:
        said = ", ".join(f"{count} by agency {agency}" for agency, count in attested)
        lines += ["", f"Attestations on the agency's documents since the last report: {said}"]
    acknowledged = _acknowledged(reading)
    if acknowledged:
        lines += ["", f"Acknowledged before, {len(acknowledged)} in all; the newest:"]
        for one in acknowledged[-_SHOWN:]:
            about = one.code if one.index is None else f"{one.code} at index {one.index}"
            when = "" if one.settled_ms is None else f"{moment(one.settled_ms)}  "
            lines.append(f"  {when}{about}: {quoted(one.why)}")
    return lines


def _headline(reading: Reading) -> str:
    number = len(reading.alarms)
    if number:
        new = sum(not one.told for one in reading.alarms)
        return f"{_many(number, 'ALARM', 'ALARMS')} ({new} new) for agency {reading.agency}"
    return f"All that the log holds in the name of agency {reading.agency} is in its register"


def _extent(reading: Reading) -> list[str]:
    tally = reading.tally
    before = "never" if reading.agreed_before_ms is None else moment(reading.agreed_before_ms)
    lines = [f"  ledger:         {printable(reading.origin)}"]
    upto = f"index {reading.start} to {reading.size - 1}, every leaf proven"
    lines.append(f"  read:           {upto}{'' if reading.complete else ', NOT to the end of the log'}")
    if reading.sealed_ms is not None:
        lines.append(f"  last seal:      {moment(reading.sealed_ms)}")
    lines.append(
        f"  since reported: {_many(tally.leaves, 'leaf', 'leaves')}; of this agency"
        f" {_many(tally.submissions, 'submission')} with {_many(tally.records, 'record')}"
    )
    if reading.complete and reading.agreed_ms is not None:
        lines.append(f"  read whole:     {moment(reading.agreed_ms)}; before that {before}")
    else:
        lines.append(f"  read whole:     last {before}")
    return lines


# --- alarms ------------------------------------------------------------------------------------


def _unknown_lines(alarms: Sequence[Finding]) -> list[str]:
    """Submissions that no register knows, by the keys that signed them."""
    grouped: dict[str, list[Finding]] = {}
    for one in alarms:
        grouped.setdefault(" and ".join(_key(key) for key in one.facts["keys"]), []).append(one)
    lines = []
    for keys, some in grouped.items():
        records = sum(one.facts["records"] for one in some)
        lines.append(
            f"ALARM  {_many(len(some), 'submission')} with {_many(records, 'record')} that no register"
            f" knows, signed with {keys} [UNKNOWN_SUBMISSION]"
        )
        for one in some[:_SHOWN]:
            facts = one.facts
            kinds = ", ".join(f"{count} {printable(kind)}" for kind, count in facts["kinds"].items())
            claimed = facts["claimed_ms"]
            lines += [
                f"  submission at index {one.index}: {kinds}; records from index {facts['first']} on",
                f"    sealed {moment(facts['sealed_ms'])}, says that it was made {moment(int(claimed))}",
            ]
            if facts["signatures"] == "invalid":
                lines.append("    its signatures are NOT those of the keys: the log itself broke its rules")
            if facts["unusual_hour"]:
                lines.append("    outside the usual hours")
        lines += _more(some)
    return lines


def _alarm_lines(one: Finding) -> list[str]:
    facts = one.facts
    if one.code == "NOT_IN_LOG":
        said = (
            f"The register says that its submission {facts['submission']} ({printable(facts['kind'])},"
            f" {facts['records']} records) is in the log from index {facts['first']} on: it is not there"
        )
    elif one.code == "STRAY_RECORD":
        kind = printable(facts["kind"])
        said = (
            f"At index {one.index} stands a {kind} in the agency's name that none of its submissions covers"
        )
    elif one.code == "ROWS_GONE":
        said = f"{facts['missing']} submissions that the register held are in it no more"
    else:
        said = printable(f"{facts['where']}: {facts['what']}")
    lines = [f"ALARM  {said} [{one.code}]"]
    if "sealed_ms" in facts:
        lines.append(f"  sealed {moment(facts['sealed_ms'])}")
    for number, _ in enumerate(facts.get("evidence", ()), 1):
        lines.append(f"  evidence: {evidence_name(one, number)}, a signed checkpoint")
    return lines


def evidence_name(one: Finding, number: int) -> str:
    """The file, in the agency's directory, in which a checkpoint is kept as evidence."""
    return f"evidence/{one.number}-{one.code.lower()}-{number}.checkpoint"


def next_steps(reading: Reading, where: Where) -> list[str]:
    """What to do about the open alarms: sentences, and commands that can be given as they stand."""
    alarms = reading.alarms
    codes = {one.code for one in alarms}
    steps: list[str] = []
    spans: dict[int, tuple[int, int]] = {}
    for one in alarms:
        if one.code == "UNKNOWN_SUBMISSION":
            assert one.index is not None
            last = one.index + one.facts["records"]
            for key in one.facts["keys"]:
                since, until = spans.get(key["number"], (one.index, last))
                spans[key["number"]] = min(one.index, since), max(last, until)
    if spans:
        steps.append("If an office of yours made them, name its register, and they are alarms no more:")
        steps.append(f"  sudur agency reconcile --dir {where.dir} --node {where.node} --also OTHER.db")
    here = f"--dir {where.dir} --node {where.node}"
    for number, (since, until) in sorted(spans.items()):
        what = f"{number} --since {since} --until {until} --reason 3 --signer OTHER {here}"
        office = f"What the office itself logged with key {number} in between would go too, for good"
        steps += [
            f"Else key {number} is in wrong hands: have the authority say so, at once:",
            f"  sudur authority stolen {reading.agency} {number} {since} --dir AUTHORITY --node {where.node}",
            f"Then, with another key, revoke what the thief logged. {office}: look first, with --dry-run:",
            f"  sudur agency revoke --by-key {what}",
            "And take back what the thief revoked or suspended:",
            f"  sudur agency reinstate --changed-by-key {what}",
            f"And affirm, range by range, what key {number} rightly signed since then, or it stays doubtful:",
            f"  sudur agency affirm FIRST LAST {here}",
        ]
    if "NOT_IN_LOG" in codes:
        steps.append(
            "Hand out nothing of what is not in the log, and ask the node's operator; the register may also"
            " have been altered: sudur agency register journal shows who worked with it."
        )
    if "STRAY_RECORD" in codes or any(one.facts.get("signatures") == "invalid" for one in alarms):
        steps.append("The log broke its rules: tell the authority and auditors; no key of yours did this.")
    if "ROWS_GONE" in codes:
        steps += [
            "Somebody removed rows, or an older register was put back. To see which they were, read again:",
            f"  sudur agency reconcile --dir {where.dir} --node {where.node} --from {reading.start}",
        ]
    if codes & set(_LOG_CODES):
        steps.append(
            "Hand the evidence to the authority and to auditors, compare with another node, and issue nothing"
            " before it is cleared up."
        )
    for one in alarms[:1]:
        about = "--log" if one.index is None else str(one.index)
        steps += [
            "What turns out to be right is acknowledged, with a reason, and is an alarm no more:",
            f"  sudur agency reconcile acknowledge {about} --why REASON --dir {where.dir}",
        ]
    return steps


# --- warnings and notes ------------------------------------------------------------------------


def _words(one: Finding) -> list[str]:
    facts = one.facts
    said = _warning(one, facts) if one.level is Level.WARNING else _note(facts, one)
    return [f"{said[0]} [{one.code}]", *(f"  {line}" for line in said[1:])]


def _warning(one: Finding, facts: dict[str, Json]) -> list[str]:
    if one.code == "UNUSUAL_HOURS":
        span = f"{_clock(facts['from_ms'])} to {_clock(facts['to_ms'])}"
        return [
            (
                f"{facts['day']}, {span} UTC: {_key(facts['key'])} logged outside the usual hours:"
                f" {facts['submissions']} submissions, {facts['records']} records, the first at index"
                f" {facts['first']}"
            )
        ]
    if one.code == "UNUSUAL_VOLUME":
        return [
            (
                f"{facts['day']}: {_key(facts['key'])} logged {facts['records']} {printable(facts['kind'])}"
                f" records; {facts['usual']} are usual in a day, up to {facts['limit']} unremarkable"
            )
        ]
    if one.code == "SILENT_KEY":
        return [
            (
                f"{facts['day']}: {_key(facts['key'])} signed for the first time in {facts['days']} days,"
                f" at index {facts['first']}"
            )
        ]
    if one.code == "FIRST_USE":
        return [f"{facts['day']}: {_key(facts['key'])} signed for the first time, at index {facts['first']}"]
    if one.code == "NEW_KEY":
        here = "lies in this directory" if facts["here"] else "is NOT in this directory: whose is it?"
        return [
            (
                f"{moment(facts['sealed_ms'])}: {_key(facts['key'])} was registered with the agency, for"
                f" {printable(facts['key']['use'])}; it {here}"
            ),
            f"fingerprint {facts['fingerprint']}",
        ]
    if one.code == "LOG_SILENT":
        return [
            (
                f"The log's last seal is {facts['hours']} hours old, of {moment(facts['sealed_ms'])}: the"
                " node may be holding back what is newer; compare with another node"
            )
        ]
    return [
        (
            f"The submission at index {one.index} (work {facts['work']}, {facts['records']} records) is in"
            " the log, though the register was told that it was refused; do not send it again"
        )
    ]


def _note(facts: dict[str, Json], one: Finding) -> list[str]:
    at = f"{moment(facts['sealed_ms'])}, index {one.index}"
    if one.code == "REGISTRY_CHANGE":
        by = ", ".join(
            f"the authority's key {number}" if agency == 0 else f"key {number} of agency {agency}"
            for agency, number in facts["by"]
        )
        return [f"{at}: {facts['words'][0]}, signed by {by}", *facts["words"][1:]]
    who = "the authority" if facts["by"] == 0 else f"agency {facts['by']}"
    if one.code == "STATUS_BY_OTHER":
        listed = ", ".join(facts["subjects"])
        more = " …" if facts["count"] > len(facts["subjects"]) else ""
        return [
            (
                f"{at}: {who} made {facts['count']} of the agency's documents {printable(facts['status'])}:"
                f" {listed}{more}"
            )
        ]
    return [f"{at}: {who} affirmed the agency's leaves {facts['first']} to {facts['last']}"]


def _key(key: Json) -> str:
    label = f" {quoted(key['label'])}" if key["label"] else ""
    return f"key {key['number']}{label}"


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


def _clock(time_ms: int) -> str:
    return f"{time_ms // HOUR_MS % 24:02}:{time_ms // 60_000 % 60:02}"


def _more(some: Sequence[Finding]) -> list[str]:
    return [f"  … and {len(some) - _SHOWN} more; --json has all"] if len(some) > _SHOWN else []


def _new(reading: Reading, level: Level) -> list[Finding]:
    return [one for one in reading.news if one.level is level]


def _acknowledged(reading: Reading) -> list[Finding]:
    return [one for one in reading.findings if one.standing is Standing.ACKNOWLEDGED]


def _finding_json(one: Finding) -> Json:
    return {"new": not one.told, **one.to_json()}
