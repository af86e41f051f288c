"""Where no network namespace can be had: a Python process that imports this reaches nothing beyond its own machine.

The rehearsal lays it on the notebook's path as `sitecustomize`, so that every Python process below imports it at its start.
"""

from __future__ import annotations

import socket
from typing import Any

_connect, _resolve = socket.socket.connect, socket.getaddrinfo
LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


def _refuse(host: Any) -> None:
    if host and not str(host).startswith(LOCAL):
        raise OSError(101, f"Network is unreachable: {host}, in a rehearsal")


def connect(self: socket.socket, address: Any) -> None:
    """As the socket's own, to this machine alone."""
    if self.family in (socket.AF_INET, socket.AF_INET6):
        _refuse(address[0])
    _connect(self, address)


def getaddrinfo(host: Any, *arguments: Any, **named: Any) -> Any:
    """As the module's own, of this machine alone."""
    _refuse(host)
    return _resolve(host, *arguments, **named)


socket.socket.connect = connect  # type: ignore[method-assign,assignment]
socket.getaddrinfo = getaddrinfo
