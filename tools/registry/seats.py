"""From where a registry change is signed: the authority's directory, or an agency's.

Both hold key files and pin the ledger. Which keys may sign is for the registry to say; what matters here
is which of them lie in this directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ledger.changes import AUTHORITY
from ledger.errors import WrongLedger
from ledger.trust import TrustedLedger
from tools.agency.directory import AgencyDirectory, Membership
from tools.client import LedgerClient
from tools.errors import Usage
from tools.keyfile import KeyFile, PrivateKey
from tools.pinning import check_node, load_trust, only_ledger
from tools.registry.authority_directory import AuthorityDirectory
from tools.registry.proposals import Proposal
from tools.registry.registered import KeyIndex, registered_keys
from tools.signing import NumberedSigner
from tools.ui import Passphrase


@dataclass(frozen=True, slots=True)
class Seat:
    """A directory with keys that sign changes of one ledger's registry."""

    path: Path
    ledger: TrustedLedger
    key_files: tuple[KeyFile, ...]

    def check(self, proposal: Proposal) -> None:
        """Raises WrongLedger for a proposal of another ledger."""
        if proposal.genesis != self.ledger.genesis:
            raise WrongLedger(
                f"the proposal is for ledger {proposal.genesis.hex()[:16]}, pinned here is"
                f" {self.ledger.genesis.hex()[:16]} ({self.ledger.origin})",
                where=str(self.path),
                fix="sign it in a directory of that ledger, if it is meant at all",
            )

    def sign(self, proposal: Proposal, passphrase: Passphrase) -> Proposal:
        """With the signatures that are missing and can be made here; unchanged when none can.

        Raises WrongLedger, WrongPassphrase, KeyFileError.
        """
        self.check(proposal)
        return proposal.signed_by(
            NumberedSigner(number, open_key(file, passphrase).signer)
            for number, file in self._useful(proposal)
        )

    def _useful(self, proposal: Proposal) -> Iterator[tuple[int, KeyFile]]:
        """The keys here that may sign and did not: as many as are missing, and all of a new authority's."""
        count, incoming = proposal.missing()
        signed = {one.number for one in proposal.signatures}
        counted = {key.number for key in proposal.keys}
        for number, key in sorted(proposal.may_sign().items()):
            file = next((one for one in self.key_files if one.public.key == key.public_key), None)
            if file is None or number in signed or not (number in incoming or count > 0):
                continue
            if number in counted:
                count -= 1
            yield number, file


def open_key(file: KeyFile, passphrase: Passphrase) -> PrivateKey:
    """Asks for a passphrase when the file needs one. Raises WrongPassphrase, KeyFileError."""
    return file.open(passphrase.to_open(file.path.name) if file.is_encrypted else None)


def open_seat(path: Path) -> Seat:
    """The seat in a directory, of whichever kind. Raises Usage, FileProblem."""
    if AuthorityDirectory.is_one(path):
        authority = AuthorityDirectory.open(path)
        return Seat(path, authority.ledger(), tuple(file for _, file in authority.key_files()))
    here = AgencyDirectory.open(path)
    pinned = here.pinned()
    if pinned is None:
        raise Usage(
            f"{path} is pinned to no ledger yet",
            where="--dir",
            fix="give the authority's trust file once: --trust TRUST.json",
        )
    return Seat(path, pinned, tuple(here.key_files("registry")))


def check_directory(path: Path) -> None:
    """Raises Usage for what is no directory at all."""
    if not path.is_dir():
        raise Usage(
            f"{path} is no authority's directory, and no agency's",
            where="--dir",
            fix="make one first: sudur authority init, or sudur agency keygen",
        )


def is_authority(path: Path) -> bool:
    """Whether the directory is an authority's."""
    return AuthorityDirectory.is_one(path)


def pin(path: Path, trust: Path | None, client: LedgerClient) -> None:
    """Pin an agency's directory to the only ledger of ``trust``, at first use; the node must serve it.

    Raises Usage when it is pinned to another, WrongLedger.
    """
    here = AgencyDirectory.open(path)
    if trust is None:
        return
    given, pinned = only_ledger(load_trust(trust)), here.pinned()
    if pinned is None:
        check_node(client, given)
        here.pin(given)
    elif pinned.genesis != given.genesis:
        raise Usage(
            f"{path} is pinned to another ledger", where="--trust", fix="use another directory for it"
        )


def agency_of(seat: Seat, client: LedgerClient) -> int:
    """Whose seat it is: 0 the authority, else the agency with which its registry keys are registered.

    What is found is remembered in the directory. Raises Usage.
    """
    if is_authority(seat.path):
        return AUTHORITY
    here = AgencyDirectory.open(seat.path)
    known = here.membership()
    if known is not None:
        return known.agency
    if not seat.key_files:
        raise Usage(
            f"there is no registry key in {seat.path}",
            where="--dir",
            fix="make one and have it added: sudur agency keygen --use registry",
        )
    wanted = [file.public.fingerprint for file in seat.key_files]
    holders = {one.agency for one in KeyIndex(here.path / "registered.json", client).find(wanted).values()}
    if len(holders) != 1 or AUTHORITY in holders:
        raise Usage(
            "the registry keys here are not registered with one agency",
            where="--dir",
            fix="hand the public key files to whoever stands above the agency first",
        )
    agency = holders.pop()
    here.remember(Membership(agency, registered_keys(client, agency)))
    return agency
