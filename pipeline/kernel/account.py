"""The door to Kaggle: the official package's client, logged in, or a stand-in that says what it would be asked.

Both take a method of `KaggleApi` by its name, so that a dry run walks the very path of a real one. Credentials are the
package's own affair: it finds them where it always does, and nothing here reads or tells them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from pipeline.errors import InputError

log = logging.getLogger(__name__)

REMEDY = "Correct what Kaggle says, and push again; what was uploaded stays."


class Missing(InputError):
    """Kaggle does not have what it was asked for; where that would be one's own, it says "forbidden" as well."""


class Client(Protocol):
    """A method of `KaggleApi`, by its name. Raises `Missing`, and `InputError` for whatever else goes wrong."""

    def __call__(self, method: str, **arguments: Any) -> Any:
        """Call it."""
        ...


class Account:
    """The client of whoever is logged in on this machine, `user`."""

    def __init__(self) -> None:
        with redirect_stdout(StringIO()):  # without an account it prints a page, and ends
            try:
                from kaggle.api.kaggle_api_extended import KaggleApi

                self._api = KaggleApi()
                self._api.args = []  # "verbose" would write the credentials out
                self._api.authenticate()
            except ModuleNotFoundError as error:
                raise InputError(
                    "this installation",
                    found=f"no package {error.name}",
                    wanted="Kaggle's official client",
                    remedy="Install this project's extra: pip install -e '.[kernel]'.",
                ) from None
            except SystemExit:
                raise InputError(
                    "Kaggle's credentials",
                    found="none that are valid",
                    wanted="an account's, where the kaggle package looks: ~/.kaggle, or $KAGGLE_API_TOKEN",
                    remedy="Log in by `kaggle auth login`; --dry-run needs no account.",
                ) from None
        self.user: str = self._api.config_values["username"]

    def __call__(self, method: str, **arguments: Any) -> Any:
        """See `Client`. What the package prints goes to stderr."""
        from requests.exceptions import HTTPError, RequestException

        log.info("%s", spelled(method, arguments))
        try:
            with redirect_stdout(sys.stderr):
                return getattr(self._api, method)(**arguments)
        except HTTPError as error:
            found, kind = str(error), Missing if error.response.status_code in (403, 404) else InputError
        except (RequestException, ValueError) as error:
            found, kind = str(error), InputError
        raise kind(f"Kaggle, {method}", found=found, wanted="its consent", remedy=REMEDY)


class NewAccount:
    """A client that does nothing but say each call, and answers as Kaggle would to somebody for whom all of it is new.

    `newest` are the versions of adapters that are there all the same.
    """

    def __init__(self, say: Callable[[str], object], newest: Mapping[str, int]) -> None:
        self._say, self._newest = say, newest
        self._uploaded: list[SimpleNamespace] = []

    def __call__(self, method: str, **arguments: Any) -> Any:
        """See `Client`."""
        self._say(spelled(method, arguments))
        if method in ("dataset_metadata", "model_get", "kernels_pull"):
            raise Missing(method, found="nothing", wanted="", remedy="")
        if "folder" in arguments:
            self._uploaded = [SimpleNamespace(name=path.name) for path in Path(arguments["folder"]).iterdir()]
        done = {"error": None, "status": "ok", "id": 1, "version_number": 1, "url": "", "message": ""}
        lists = dict.fromkeys(("tags", "dataset_sources", "competition_sources", "kernel_sources", "model_sources"))
        answers: dict[str, Any] = {
            "model_instance_get": SimpleNamespace(version_number=self._newest.get(arguments.get("model_instance", ""), 0)),
            "dataset_status": '{"status": "ready", "current_version_number": 1}',
            "dataset_list_files": SimpleNamespace(files=self._uploaded, next_page_token=""),
            "model_instance_version_files": SimpleNamespace(files=self._uploaded, next_page_token=""),
            "kernels_status": SimpleNamespace(status=SimpleNamespace(name="COMPLETE"), failure_message=None),
            "kernels_output": (["submission.csv"], ""),
        }
        return answers.get(method, SimpleNamespace(**done, **{f"invalid_{name}": value for name, value in lists.items()}))


def spelled(method: str, arguments: dict[str, Any]) -> str:
    """A call, as one would write it."""
    return f"kaggle.{method}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
