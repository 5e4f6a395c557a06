"""Where the commands ask: a node's gRPC service, or HTTP. Nothing that either says is believed here."""

from __future__ import annotations

import json
from typing import Final, Protocol

from ledger.canonical_json import Json
from ledger.checkpoints import parse_checkpoint
from ledger.errors import FormatError
from ledger.inquiries import AsOf, Named, Referred, read_referred
from ledger.notes import parse_note
from ledger.references import reference_digits
from ledger.registry_records import LedgerRecord
from ledger.reports import read_figures
from ledger.resources import CHECKPOINT, Resources, fetch_leaves, registry_ledger_path
from ledger.seals import Seal
from tools.answers import FiguresAnswer
from tools.errors import AnswerWrong, NotFound, Usage
from tools.node_resources import NodeResources
from tools.options import connect, static_resources

_PATIENCE_S: Final = 10.0


class Inquiry(Protocol):
    """A place to ask. Each may raise Unavailable, AnswerWrong, NotFound."""

    @property
    def resources(self) -> Resources:
        """Its static resources, for proofs."""
        ...

    def reference(self, index: int) -> tuple[Referred, AsOf]: ...

    def figures(self, agency: int) -> FiguresAnswer: ...

    def agencies(self) -> int:
        """How many are enrolled; they are numbered from 1."""
        ...

    def close(self) -> None: ...


def ask(node: str | None, url: str | None) -> Inquiry:
    """The place that the options name. Raises Usage unless it is one."""
    if (node is None) == (url is None):
        raise Usage("say where to ask, in one way", where="--node or --url")
    return GrpcInquiry(node) if node is not None else HttpInquiry(url or "")


class GrpcInquiry:
    """A node's gRPC service; static resources from where the node says they are."""

    def __init__(self, address: str) -> None:
        self._client = connect(address, _PATIENCE_S)
        self._http: NodeResources | None = None

    @property
    def resources(self) -> Resources:
        if self._http is None:
            url = self._client.ledger().resources_url
            self._http = NodeResources(self._client, url, static_resources)
        return self._http

    def reference(self, index: int) -> tuple[Referred, AsOf]:
        return self._client.reference(reference_digits(index))

    def figures(self, agency: int) -> FiguresAnswer:
        return self._client.figures(agency)

    def agencies(self) -> int:
        try:
            return LedgerRecord.decode(self._client.record("ledger").record).agencies
        except FormatError as error:
            raise AnswerWrong(str(error), where=self._client.address) from None

    def close(self) -> None:
        self._client.close()
        if self._http is not None:
            self._http.close()


class HttpInquiry:
    """The JSON and the static resources at a URL."""

    def __init__(self, url: str) -> None:
        self._http = static_resources(url)

    @property
    def resources(self) -> Resources:
        return self._http

    def reference(self, index: int) -> tuple[Referred, AsOf]:
        path = f"v1/reference/{reference_digits(index)}"
        try:
            return read_referred(self._json(path), "answer")
        except NotFound:
            raise NotFound(
                "the ledger has no entry with this number",
                where=self._http.url,
                fix="have it read out once more; a new document may take a moment",
            ) from None
        except FormatError as error:
            raise AnswerWrong(str(error), where=f"{self._http.url}/{path}") from None

    def figures(self, agency: int) -> FiguresAnswer:
        path = f"v1/figures/{agency}"
        where = f"{self._http.url}/{path}"
        try:
            number, figures, as_of, names = read_figures(self._json(path), "answer")
        except NotFound:
            raise NotFound(f"agency {agency} is not enrolled", where=self._http.url) from None
        except FormatError as error:
            raise AnswerWrong(str(error), where=where) from None
        if number != agency:
            raise AnswerWrong("the figures are of another agency", where=where)
        return FiguresAnswer(Named(number, names), figures, as_of)

    def agencies(self) -> int:
        try:
            size = parse_checkpoint(parse_note(self._http.fetch(CHECKPOINT)).text).size
            seal = Seal.decode(fetch_leaves(self._http, size - 1, size, size)[0])
            return LedgerRecord.decode(self._http.fetch(registry_ledger_path(seal.registry_root))).agencies
        except FormatError as error:
            raise AnswerWrong(str(error), where=self._http.url) from None

    def close(self) -> None:
        self._http.close()

    def _json(self, path: str) -> Json:
        data = self._http.fetch(path)
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise AnswerWrong("the answer is not JSON", where=f"{self._http.url}/{path}") from None
