"""Words for wrong commands and arguments that are those of the rest of kdsweep."""

import re
from typing import Any

import typer
from typer.core import TyperGroup

from kdsweep.errors import did_you_mean

_QUOTED = r"'([^']*)'"


class Commands(TyperGroup):
    """A group of commands that answers an unknown one, or a wrong value, as a sweep file would."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds a command; an unknown one is answered with those that there are."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            known = self.list_commands(ctx)
            ctx.fail(f"Unknown command {args[0]!r}. {did_you_mean(args[0], known)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs a command; Typer's own words for a wrong value are those of its parser."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = _plain(error)
            raise


def _plain(error: typer.BadParameter) -> str:
    from pydantic import ValidationError

    from kdsweep.config import Config
    from kdsweep.spec.faults import translate

    if not isinstance(error.__cause__, ValidationError):
        return error.message
    given = error.__cause__.errors()[0]["input"]
    text = translate(error.__cause__, Config, given)[0].text.removeprefix(": ")
    none_of = re.fullmatch(r".* is not one of (.*)\.", text, re.DOTALL)
    if none_of is None:
        return text
    return f"{given!r} is not known. {did_you_mean(str(given), re.findall(_QUOTED, none_of[1]))}"
