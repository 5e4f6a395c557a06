"""The tables of the register, all in one place.

What stays readable in them is what the log makes public anyway (leaves, records, commitments, indexes,
times), ids, states, and how the work is cut; every other column is sealed (tools/register/box.py), and
named ``sealed`` so that it shows. States of a submission are in tools/agency/outbox.py.
"""

from __future__ import annotations

from typing import Final

APPLICATION: Final = 0x53554452
"""SQLite's application id: "SUDR"."""

VERSION: Final = 1

TABLES: Final = (
    # One row each: which key, ledger and agency this register is of, and the journal's head.
    """CREATE TABLE facts (
        name TEXT PRIMARY KEY,
        sealed BLOB NOT NULL
    ) STRICT, WITHOUT ROWID""",
    # Something that the agency does as one: what one command submits. ``identity``: the blind mark of the
    # table that is issued or imported, so that the same command finds its work again; ``rows``: how many of
    # its rows are in the register.
    """CREATE TABLE works (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        made_ms INTEGER NOT NULL,
        closed INTEGER NOT NULL DEFAULT 0,
        identity BLOB UNIQUE,
        rows INTEGER NOT NULL DEFAULT 0,
        sealed BLOB NOT NULL
    ) STRICT""",
    "CREATE INDEX works_open ON works (kind) WHERE closed = 0",
    # SUBMISSIONs and their packed records, byte for byte as they are sent. ``kind``: what a signing policy
    # counts its records as. ``document``: the first of its documents, which follow one another.
    # ``known_size``: a size that the log had before it was first sent. ``mark``: keyed, over the SUBMISSION
    # without its signatures, so that a row that was put in from outside is not taken for the agency's own.
    """CREATE TABLE submissions (
        id INTEGER PRIMARY KEY,
        work INTEGER NOT NULL REFERENCES works,
        state INTEGER NOT NULL,
        kind TEXT NOT NULL,
        count INTEGER NOT NULL,
        document INTEGER,
        known_size INTEGER NOT NULL,
        leaf BLOB NOT NULL,
        records BLOB NOT NULL,
        mark BLOB NOT NULL,
        first INTEGER,
        block INTEGER,
        sealed_ms INTEGER,
        error TEXT
    ) STRICT""",
    "CREATE INDEX submissions_of_work ON submissions (work)",
    "CREATE INDEX submissions_unsettled ON submissions (state) WHERE state < 2",
    "CREATE INDEX submissions_by_time ON submissions (sealed_ms) WHERE sealed_ms IS NOT NULL",
    "CREATE INDEX submissions_by_first ON submissions (first) WHERE first IS NOT NULL",
    "CREATE INDEX submissions_by_document ON submissions (document) WHERE document IS NOT NULL",
    # One document each: seed, fields and external id are sealed. ``row``: of the table it came from.
    """CREATE TABLE documents (
        id INTEGER PRIMARY KEY,
        work INTEGER NOT NULL REFERENCES works,
        row INTEGER,
        type INTEGER NOT NULL,
        basis INTEGER NOT NULL,
        commitment BLOB,
        external BLOB,
        sealed BLOB NOT NULL
    ) STRICT""",
    "CREATE INDEX documents_by_external ON documents (external) WHERE external IS NOT NULL",
    # Blind search words: see tools/register/search.py.
    """CREATE TABLE postings (
        id INTEGER PRIMARY KEY,
        level INTEGER NOT NULL,
        document INTEGER NOT NULL,
        span INTEGER NOT NULL,
        entries BLOB NOT NULL
    ) STRICT""",
    # The newest receipt that was made of a document.
    """CREATE TABLE receipts (
        document INTEGER PRIMARY KEY REFERENCES documents,
        sealed BLOB NOT NULL
    ) STRICT""",
    # What a letter or a reply says, with its files; or the receipt that came with one.
    """CREATE TABLE contents (
        id INTEGER PRIMARY KEY,
        sealed BLOB NOT NULL
    ) STRICT""",
    # Envelopes that the records of a submission name, as they are put: until the submission is placed.
    """CREATE TABLE envelopes (
        id INTEGER PRIMARY KEY,
        submission INTEGER NOT NULL REFERENCES submissions,
        data BLOB NOT NULL
    ) STRICT""",
    "CREATE INDEX envelopes_of_submission ON envelopes (submission)",
    # Every SEND of the agency (way 0) and to it (way 1); ``agency`` is the other one. Its own stands at
    # its submission's first index + position, one to it at ``place``. ``received`` and ``final``: indexes
    # of its ANSWERs. ``fault`` and ``reply_fault``: why an envelope does not open. ``held``: whether the
    # node may still hold the envelope that came.
    """CREATE TABLE letters (
        id INTEGER PRIMARY KEY,
        way INTEGER NOT NULL,
        agency INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        due INTEGER NOT NULL,
        follows INTEGER,
        commitment BLOB NOT NULL,
        envelope BLOB NOT NULL,
        submission INTEGER REFERENCES submissions,
        position INTEGER,
        place INTEGER UNIQUE,
        sent_ms INTEGER,
        reminds INTEGER,
        received INTEGER,
        received_ms INTEGER,
        final INTEGER,
        final_ms INTEGER,
        doubtful INTEGER NOT NULL DEFAULT 0,
        content INTEGER REFERENCES contents,
        fault TEXT,
        reply INTEGER REFERENCES contents,
        reply_fault TEXT,
        receipt INTEGER REFERENCES contents,
        held INTEGER NOT NULL DEFAULT 1
    ) STRICT""",
    "CREATE INDEX letters_open ON letters (way) WHERE final IS NULL",
    "CREATE INDEX letters_by_submission ON letters (submission) WHERE submission IS NOT NULL",
    "CREATE INDEX letters_by_reminded ON letters (reminds) WHERE reminds IS NOT NULL",
    # Final answers that were decided on and are not in the log yet: what was decided, the work that issues
    # the document, the work that passes the letter on, the submission of the ANSWER, each when there is one.
    """CREATE TABLE decisions (
        letter INTEGER PRIMARY KEY REFERENCES letters,
        sealed BLOB NOT NULL,
        issue INTEGER REFERENCES works,
        passed INTEGER REFERENCES works,
        submission INTEGER REFERENCES submissions
    ) STRICT""",
    # What each officer did; ``link`` chains each row to the one before.
    """CREATE TABLE journal (
        id INTEGER PRIMARY KEY,
        time_ms INTEGER NOT NULL,
        officer TEXT NOT NULL,
        action TEXT NOT NULL,
        sealed BLOB NOT NULL,
        link BLOB NOT NULL
    ) STRICT""",
    # What the agency's monitor found in the log (tools/monitor/findings.py).
    """CREATE TABLE findings (
        id INTEGER PRIMARY KEY,
        sealed BLOB NOT NULL
    ) STRICT""",
)
