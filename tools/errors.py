"""Errors of the command line and the client. The core's own are in ``ledger.errors``; the root is the same.

Which exit code an error ends a command with is decided here, by its class, and nowhere else.
"""

from __future__ import annotations

from typing import Final

from ledger.errors import SudurError

EXIT_OK: Final = 0
EXIT_NOT_GENUINE: Final = 1
EXIT_CANNOT_TELL: Final = 2
EXIT_USAGE: Final = 64


class ToolError(SudurError):
    """A command cannot do what it was asked to do."""

    code = "TOOL"


class Usage(ToolError):
    """The command line itself is wrong: an option, a name, a file that is not there."""

    code = "USAGE"


class FileProblem(ToolError):
    """A file cannot be read or written."""

    code = "FILE"


class NameTaken(FileProblem):
    """A file of this name is there already, and is not to be written over."""

    code = "NAME_TAKEN"


class KeyFileError(ToolError):
    """A key file is damaged, open to others, or not a key file."""

    code = "KEY_FILE"


class WrongPassphrase(ToolError):
    code = "WRONG_PASSPHRASE"


class NoEnvelopeKey(ToolError):
    """An agency has no key in use that an envelope could be sealed to."""

    code = "NO_ENVELOPE_KEY"


class ProposalProblem(ToolError):
    """A proposed change is damaged, altered, signed already, or not the same as another."""

    code = "PROPOSAL"


class SignaturesMissing(ToolError):
    """A change has fewer signatures than it needs."""

    code = "SIGNATURES_MISSING"


class NotGenuine(ToolError):
    """What was to be worked on is not a genuine document, or no longer one."""

    code = "NOT_GENUINE"


class DirectoryInUse(ToolError):
    """Another command works in this directory right now."""

    code = "DIRECTORY_IN_USE"


class JournalProblem(ToolError):
    """A verifying office's journal is damaged, not this key's, or does not hold what is asked for."""

    code = "JOURNAL"


class RegisterProblem(ToolError):
    """The agency's register is damaged, not this key's, or holds nothing of what is asked for."""

    code = "REGISTER"


class TableProblem(ToolError):
    """A table cannot be read as a whole: its encoding, its columns, a formula, a bomb."""

    code = "TABLE"


class ExternalIdTaken(ToolError):
    """The agency's own number of a document stands for another document already."""

    code = "EXTERNAL_ID_TAKEN"


class SubmissionFileProblem(ToolError):
    """A submission file is damaged, altered, foreign, or not yet signed by enough officers."""

    code = "SUBMISSION_FILE"


class CannotTell(ToolError):
    """Not all that has to be seen could be seen, or not yet; nothing is said about the rest."""

    code = "CANNOT_TELL"


class LogAlarm(ToolError):
    """A node shows a log that is not the one it signs, or signed before.

    ``evidence``: the signed checkpoints that say so, byte for byte.
    """

    code = "LOG_ALARM"

    def __init__(
        self, what: str, *, where: str = "", fix: str = "", evidence: tuple[bytes, ...] = ()
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.evidence = evidence


class LogRolledBack(LogAlarm):
    """The newest checkpoint is older than one that was accepted before."""

    code = "LOG_ROLLED_BACK"


class LogForked(LogAlarm):
    """The newest checkpoint is not shown to extend the one that was accepted before."""

    code = "LOG_FORKED"


class LogDiffers(LogAlarm):
    """The leaves or tiles that a node gives are not those under its signature."""

    code = "LOG_DIFFERS"


class UnknownLetter(ToolError):
    """The register has no letter of this number, or cannot read what it says."""

    code = "UNKNOWN_LETTER"


class AnswerPending(ToolError):
    """Another answer to this letter was decided on already, and is on its way."""

    code = "ANSWER_PENDING"


class AnswerWrong(ToolError):
    """A node answered with something that does not fit the question or the contract."""

    code = "ANSWER_WRONG"


class FiguresDiffer(ToolError):
    """A node's figures are not those that its own log comes to."""

    code = "FIGURES_DIFFER"


class RemoteError(ToolError):
    """The node refused with a reason that this program does not know."""

    code = "REMOTE"


class NotFound(ToolError):
    """The node has no such leaf, checkpoint, tile, commitment or record."""

    code = "NOT_FOUND"


class Unavailable(ToolError):
    """No answer could be had; whether a write happened is unknown until it is sent again."""

    code = "UNAVAILABLE"


class NotPublished(CannotTell):
    """No checkpoint of the ledger was cosigned by enough witnesses yet."""

    code = "NOT_PUBLISHED"


class NotWitnessed(CannotTell):
    """What was done is committed, and not yet witnessed: it is not handed out as final."""

    code = "NOT_WITNESSED"


class NoSecureConnection(Unavailable):
    """TLS stands in the way, and will until somebody sets it right: a certificate, a name, a clock."""

    code = "TLS"


class QueueFull(Unavailable):
    code = "QUEUE_FULL"


class DiskFull(Unavailable):
    code = "DISK_FULL"


class RateLimited(Unavailable):
    """The agency, or this address, has used up for now what one may use; the node says until when."""

    code = "RATE_LIMITED"


class EnvelopeQuota(Unavailable):
    """The node keeps no more envelopes, of this agency or of all, until some are gone."""

    code = "ENVELOPE_QUOTA"


class NoLeader(Unavailable):
    """No member of the cluster leads at the moment."""

    code = "NO_LEADER"


class NoMajority(Unavailable):
    """Too few members of the cluster answer its leader; what was sent may still be committed."""

    code = "NO_MAJORITY"


class OutcomeUnknown(Unavailable):
    """It was committed, or not, or will be: sent again, it gets the one answer."""

    code = "OUTCOME_UNKNOWN"


class ReadOnly(Unavailable):
    code = "READ_ONLY"


class IsMirror(ToolError):
    """The node is a mirror, which only reads: submissions go to the node that it follows."""

    code = "MIRROR"


class ClockUnsound(Unavailable):
    code = "CLOCK_UNSOUND"


class Stopping(Unavailable):
    code = "STOPPING"


def exit_code(error: SudurError) -> int:
    """The exit code that a command ends with after ``error``."""
    if isinstance(error, Usage):
        return EXIT_USAGE
    if isinstance(error, Unavailable | CannotTell):
        return EXIT_CANNOT_TELL
    return EXIT_NOT_GENUINE
