"""A stand-in for Kaggle's servers (not for their client): the addresses that a push asks, and what they know of an account.

`answers` take the place of one method's own, each by what it gives for a request's body: JSON, or a status.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], Any]


class StandIn(ThreadingHTTPServer):
    """The server."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.authorizations: set[str | None] = set()
        self.answers: dict[str, Answer] = {}
        self.lost: set[str] = set()  # files whose upload fails
        self.titles: dict[str, str] = {}  # of all that there is
        self.versions: dict[str, int] = {}
        self.files: dict[str, list[str]] = {}
        self.processing = 1  # looks until an upload is processed
        self.stale = 0  # looks until its version is told
        self.sessions = ["QUEUED", "RUNNING", "COMPLETE"]  # one a look, the last one for good
        self.output = {"submission.csv": b"QuestionId_Answer,MisconceptionId\n"}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def saved(self, reference: str, body: dict[str, Any], title: str | None = None) -> dict[str, Any]:
        """A new version of something."""
        self.titles.setdefault(reference, title or reference)
        self.versions[reference] = self.versions.get(reference, 0) + 1
        self.files[reference] = [file["token"] for file in body.get("files", [])]
        return {"status": "ok", "id": 1, "url": f"{self.url}/{reference}", "versionNumber": self.versions[reference]}

    def known(self, reference: str, content: Any) -> Any:
        return content if reference in self.titles else 404

    def answer(self, method: str, body: dict[str, Any]) -> Any:
        """What Kaggle gives, JSON or a status."""
        owner = body.get("ownerSlug") or body.get("userName", "")
        dataset = f"{owner}/{body.get('datasetSlug') or body.get('slug')}"
        model = f"{owner}/{body.get('modelSlug') or body.get('slug')}"
        variation = f"{model}/{(body.get('body') or body).get('instanceSlug') or body.get('instanceSlug')}"
        kernel = f"{owner}/{body.get('kernelSlug')}"
        match method:
            case "StartBlobUpload":
                return {"token": body["name"], "createUrl": f"{self.url}/blob/{body['name']}"}
            case "GetDatasetMetadata":
                return self.known(dataset, {"info": {"title": self.titles.get(dataset)}})
            case "GetDatasetStatus":
                self.processing -= 1
                return self.known(dataset, {"status": "READY" if self.processing < 0 else "BLOBS_RECEIVED"})
            case "GetDataset":
                self.stale -= (stale := self.stale > 0)
                return {"title": self.titles[dataset], "currentVersionNumber": self.versions[dataset] - stale}
            case "CreateDataset":
                return self.saved(dataset, body, body["title"])
            case "CreateDatasetVersion":
                self.stale = 2
                return self.saved(dataset, body["body"])
            case "ListDatasetFiles":  # a page a file
                at, files = int(body.get("pageToken") or 0), self.files[dataset]
                following = str(at + 1) if files[at + 1 :] else ""
                return {"datasetFiles": [{"name": name} for name in files[at : at + 1]], "nextPageToken": following}
            case "GetModel":
                return self.known(model, {"title": self.titles.get(model)})
            case "CreateModel":
                return self.saved(model, body, body["title"])
            case "GetModelInstance":
                return self.known(variation, {"versionNumber": self.versions.get(variation)})
            case "CreateModelInstance" | "CreateModelInstanceVersion":
                return self.saved(variation, body["body"])
            case "ListModelInstanceVersionFiles":
                found = self.versions.get(variation) == body["versionNumber"]
                return {"files": [{"name": name} for name in self.files[variation]]} if found else 404
            case "GetKernel":
                told = {"language": "python", "kernelType": "notebook", "slug": body["kernelSlug"], "source": "{}"}
                return self.known(kernel, {"metadata": {"title": self.titles.get(kernel)}, "blob": told})
            case "SaveKernel":
                return self.saved(body["slug"], {}, body["newTitle"])
            case "GetKernelSessionStatus":
                now = self.sessions.pop(0) if len(self.sessions) > 1 else self.sessions[0]
                return {"status": now, "failureMessage": "Notebook Timeout" if now == "ERROR" else None}
            case "ListKernelSessionOutput":
                files = [{"fileName": name, "url": f"{self.url}/output/{name}"} for name in self.output]
                return {"files": files, "log": "[]"}
            case "CreateCodeSubmission":
                return {"message": "Successfully submitted to Eedi", "ref": 1}
        return 501


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: StandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method = self.path.rpartition("/")[2]
        self.server.authorizations.add(self.headers["Authorization"])
        self.server.asked.append((method, body))
        content = self.server.answers.get(method, lambda body: self.server.answer(method, body))(body)
        self.answer(content) if isinstance(content, int) else self.answer(200, json.dumps(content).encode())

    def do_PUT(self) -> None:
        while self.headers["Transfer-Encoding"] and int(size := self.rfile.readline(), 16):
            self.rfile.read(int(size, 16) + 2)
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.answer(400 if self.path.rpartition("/")[2] in self.server.lost else 200)

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if "/logs/stream/" in self.path:
            self.answer(200, b'data: {"data": "stage: judge"}\n\ndata: END_OF_LOG\n\n', "text/event-stream")
        elif name in self.server.output:
            self.answer(200, self.server.output[name], "text/csv")
        else:
            self.answer(404)

    def answer(self, status: int, content: bytes = b"", kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind if content else "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""
