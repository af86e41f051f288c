"""The errors that a user is meant to read."""

from __future__ import annotations


class InputError(Exception):
    """What the user gave cannot be used: the message says where, what was found, what was wanted and what to do."""

    def __init__(self, where: object, *, found: str, wanted: str, remedy: str) -> None:
        super().__init__(f"{where}\n  found:  {found}\n  wanted: {wanted}\n  remedy: {remedy}")


class EngineDied(RuntimeError):
    """An engine ended before it answered; the message says how, with the end of its log where it has one."""
