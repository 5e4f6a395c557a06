"""Groups of commands that do something by themselves: ``request --to 7`` beside ``request show NUMBER``."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup


def group_with_default(command: str, *, help: str) -> typer.Typer:  # noqa: A002 - as Typer names it
    """A group in which ``command`` is meant when the first word names no command of it."""

    class WithDefault(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if not args or (args[0] not in self.commands and args[0] != "--help"):
                args = [command, *args]
            return super().parse_args(ctx, args)

    return typer.Typer(cls=WithDefault, help=f"{help} Without a command: {command}.")
