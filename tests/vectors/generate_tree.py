"""Writes tree.json beside this file: ``python -m tests.vectors.generate_tree``.

Roots and proofs come from the naive recursion in tests/ledger/oracles.py, not from the code under test.
Hashes and bytes are hex; numbers that may pass 2^53 are decimal strings. ``want`` is what is read or
computed, "proven", or the code of the error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.ledger.oracles import NaiveTree, UniformTree, numbered_leaf_hashes

SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 21)
TREE = NaiveTree(numbered_leaf_hashes(300))


def case(desc: str, given: dict[str, Any], want: object) -> dict[str, Any]:
    return {"desc": desc, "input": given, "want": want}


def hexes(path: list[bytes]) -> list[str]:
    return [node.hex() for node in path]


def roots() -> list[dict[str, Any]]:
    return [
        case(
            f"{size} leaves", {"leaves": [(b"leaf %d" % i).hex() for i in range(size)]}, TREE.root(size).hex()
        )
        for size in SIZES
    ]


def inclusion() -> list[dict[str, Any]]:
    def given(tree: NaiveTree | UniformTree, index: int, size: int, path: list[bytes]) -> dict[str, Any]:
        leaf = tree.leaf_hashes[index] if isinstance(tree, NaiveTree) else tree.leaf_hash(index)
        return {
            "leaf_hash": leaf.hex(),
            "index": str(index),
            "size": str(size),
            "path": hexes(path),
            "root": tree.root(size).hex(),
        }

    cases = [
        case(f"leaf {index} of {size}", given(TREE, index, size, TREE.inclusion(index, size)), "proven")
        for index, size in [(0, 1), (0, 2), (1, 2), (2, 3), (0, 8), (5, 7), (6, 7), (255, 256), (256, 257)]
    ]
    size = 2**64 - 1
    huge = UniformTree(size, size - 1)
    edge = [huge.same[k] for k in range(1, 64)]
    cases.append(case("the last leaf of the largest tree", given(huge, size - 1, size, edge), "proven"))

    good = TREE.inclusion(5, 7)
    honest = given(TREE, 5, 7, good)
    bad: list[tuple[str, dict[str, Any], str]] = [
        ("another index", {"index": "4"}, "PROOF_INVALID"),
        ("another size", {"size": "9"}, "PROOF_INVALID"),
        ("another root", {"root": TREE.root(8).hex()}, "PROOF_INVALID"),
        ("another leaf", {"leaf_hash": TREE.leaf_hashes[6].hex()}, "PROOF_INVALID"),
        ("a hash missing", {"path": hexes(good[:-1])}, "PROOF_INVALID"),
        ("a hash too many", {"path": hexes([*good, good[-1]])}, "PROOF_INVALID"),
        ("hashes in another order", {"path": hexes(good[::-1])}, "PROOF_INVALID"),
        ("a hash of 31 bytes", {"path": hexes([good[0][:31], *good[1:]])}, "PROOF_INVALID"),
        ("65 hashes", {"path": hexes([good[0]] * 65)}, "PROOF_INVALID"),
        ("an empty path", {"path": []}, "PROOF_INVALID"),
        ("an index that is the size", {"index": "7"}, "OUT_OF_RANGE"),
        ("a size of 2^64", {"size": str(2**64)}, "OUT_OF_RANGE"),
        ("an empty tree", {"index": "0", "size": "0"}, "OUT_OF_RANGE"),
    ]
    return cases + [case(desc, honest | change, want) for desc, change, want in bad]


def consistency() -> list[dict[str, Any]]:
    def given(old: int, new: int) -> dict[str, Any]:
        return {
            "old": str(old),
            "old_root": TREE.root(old).hex(),
            "new": str(new),
            "new_root": TREE.root(new).hex(),
            "path": hexes(TREE.consistency(old, new)),
        }

    pairs = [
        (0, 0),
        (0, 5),
        (1, 1),
        (1, 2),
        (2, 5),
        (3, 7),
        (4, 7),
        (6, 7),
        (6, 8),
        (7, 7),
        (8, 9),
        (200, 300),
    ]
    cases = [case(f"{old} within {new}", given(old, new), "proven") for old, new in pairs]
    good = TREE.consistency(6, 8)
    bad: list[tuple[str, dict[str, Any], str]] = [
        ("another old root", {"old_root": TREE.root(5).hex()}, "PROOF_INVALID"),
        ("another new root", {"new_root": TREE.root(7).hex()}, "PROOF_INVALID"),
        ("another old size", {"old": "5"}, "PROOF_INVALID"),
        ("another new size", {"new": "9"}, "PROOF_INVALID"),
        ("a hash missing", {"path": hexes(good[1:])}, "PROOF_INVALID"),
        ("a hash too many", {"path": hexes([*good, good[0]])}, "PROOF_INVALID"),
        ("an empty path", {"path": []}, "PROOF_INVALID"),
        ("equal sizes with different roots", {"old": "8", "path": []}, "PROOF_INVALID"),
        ("a path where none belongs", {"old": "8", "old_root": TREE.root(8).hex()}, "PROOF_INVALID"),
        ("an empty tree with another root", {"old": "0", "path": []}, "PROOF_INVALID"),
        ("an old size beyond the new", {"old": "9"}, "OUT_OF_RANGE"),
    ]
    return cases + [case(desc, given(6, 8) | change, want) for desc, change, want in bad]


def tile_paths() -> list[dict[str, Any]]:
    def read(path: str, level: int | str, index: int, width: int) -> dict[str, Any]:
        return case(path, {"path": path}, {"level": level, "index": str(index), "width": width})

    refused = {
        "empty": "",
        "leading slash": "/tile/0/000",
        "trailing slash": "tile/0/000/",
        "trailing newline": "tile/0/000\n",
        "level 64": "tile/64/000",
        "level with a leading zero": "tile/00/000",
        "negative level": "tile/-1/000",
        "level in Arabic digits": "tile/٠/000",
        "index in Arabic digits": "tile/0/٠٠٠",
        "short group": "tile/0/67",
        "long group": "tile/0/0067",
        "group without x": "tile/0/001/067",
        "last group with x": "tile/0/x001",
        "needless group": "tile/0/x000/067",
        "upper-case X": "tile/0/X001/067",
        "width 0": "tile/0/000.p/0",
        "width 256": "tile/0/000.p/256",
        "width with a leading zero": "tile/0/000.p/01",
        "no width": "tile/0/000.p/",
        "width without p": "tile/0/000/8",
        "doubled width": "tile/0/000.p/8.p/8",
        "parent directory": "tile/0/../0/000",
        "percent escape": "tile/0/%30%30%30",
        "index beyond any tree": "tile/0/x072/x057/x594/x037/x927/936",
        "seven groups": "tile/0/x001/x072/x057/x594/x037/x927/936",
        "too long": "tile/0/" + "x001/" * 200 + "000",
        "bundle with a level": "tile/entries/0/000",
        "other root": "tiles/0/000",
    }
    return [
        read("tile/0/000", 0, 0, 256),
        read("tile/0/x001/x234/067", 0, 1234067, 256),
        read("tile/0/x001/x234/067.p/8", 0, 1234067, 8),
        read("tile/1/999.p/255", 1, 999, 255),
        read("tile/1/x001/000", 1, 1000, 256),
        read("tile/63/000.p/1", 63, 0, 1),
        read("tile/0/x072/x057/x594/x037/x927/935", 0, 2**56 - 1, 256),
        read("tile/entries/000", "entries", 0, 256),
        read("tile/entries/x001/x234/067.p/112", "entries", 1234067, 112),
        *(case(desc, {"path": path}, "MALFORMED_TILE") for desc, path in refused.items()),
    ]


def bundles() -> list[dict[str, Any]]:
    return [
        case("one entry", {"bundle": "0003616263"}, ["616263"]),
        case("two entries, one empty", {"bundle": "0000" + "000161"}, ["", "61"]),
        case("256 entries", {"bundle": "000161" * 256}, ["61"] * 256),
        case("257 entries", {"bundle": "000161" * 257}, "MALFORMED_TILE"),
        case("no entry", {"bundle": ""}, "MALFORMED_TILE"),
        case("half a length", {"bundle": "000161" + "00"}, "MALFORMED_TILE"),
        case("an entry cut short", {"bundle": "00036162"}, "MALFORMED_TILE"),
        case("a byte after the end", {"bundle": "000361626361"}, "MALFORMED_TILE"),
    ]


def main() -> None:
    vectors = {
        "roots": roots(),
        "inclusion": inclusion(),
        "consistency": consistency(),
        "tile_paths": tile_paths(),
        "bundles": bundles(),
    }
    target = Path(__file__).with_name("tree.json")
    target.write_text(json.dumps(vectors, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
