"""A server on the loopback address that answers as huggingface.co does for one data set of files.

It knows what the hub's client asks for: what a data set is, the tree of its files, and the files themselves,
also in part. It is no proof of how the hub itself behaves.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class LoopbackHub:
    """``sent_bytes``: of files; ``largest_bytes``: of one answer."""

    name: str
    folder: Path
    url: str = ""
    sent_bytes: int = 0
    largest_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def files(self) -> dict[str, Path]:
        """By path."""
        return {str(p.relative_to(self.folder)): p for p in sorted(self.folder.rglob("*")) if p.is_file()}

    def entry(self, path: str) -> dict[str, Any]:
        """As the tree lists a file."""
        content = self.files()[path].read_bytes()
        return {
            "type": "file",
            "path": path,
            "size": len(content),
            "oid": hashlib.sha1(content).hexdigest(),
        }


@contextmanager
def loopback_hub(name: str, folder: Path) -> Iterator[LoopbackHub]:
    """Serve the files of ``folder`` as the data set ``name``."""
    hub = LoopbackHub(name, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        """A client that ends leaves its connections as they are."""
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        """As GET, without a body."""
        self.do_GET()

    def do_POST(self) -> None:
        """What is known of some paths."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "json" in self.headers.get("Content-Type", ""):
            asked = json.loads(body)["paths"]
        else:
            asked = parse_qs(body.decode()).get("paths", [])
        known = self.hub.files()
        self._json([self.hub.entry(path) for path in asked if path in known])

    def do_GET(self) -> None:
        """Information, tree, file."""
        path = unquote(urlsplit(self.path).path)
        api, files = f"/api/datasets/{self.hub.name}", f"/datasets/{self.hub.name}/resolve/"
        if match := re.fullmatch(rf"{api}/tree/[^/]+/?(.*)", path):
            start = f"{match[1]}/" if match[1] else ""
            self._json([self.hub.entry(found) for found in self.hub.files() if found.startswith(start)])
        elif re.fullmatch(rf"{api}(/revision/[^/]+)?", path):
            self._json(
                {
                    "id": self.hub.name, "sha": COMMIT, "private": False, "gated": False, "disabled": False,
                    "downloads": 0, "likes": 0, "tags": [],
                    "siblings": [{"rfilename": found} for found in self.hub.files()],
                }
            )  # fmt: skip
        elif path.startswith(files):
            self._file(path[len(files) :].partition("/")[2])
        else:
            self._missing("RepoNotFound")

    def _file(self, name: str) -> None:
        known = self.hub.files()
        if name not in known:
            self._missing("EntryNotFound")
            return
        content = known[name].read_bytes()
        start, stop, status = 0, len(content), 200
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, status = int(match[1]), 206
            stop = min(stop, int(match[2]) + 1) if match[2] else stop
        headers = {
            "ETag": f'"{self.hub.entry(name)["oid"]}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
            **({"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"} if status == 206 else {}),
        }
        self._send(status, content[start:stop], headers, counted=True)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _missing(self, code: str) -> None:
        self._send(404, b"", {"X-Error-Code": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, counted: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if counted:
            with self.hub.lock:
                self.hub.sent_bytes += len(body)
                self.hub.largest_bytes = max(self.hub.largest_bytes, len(body))
        self.wfile.write(body)
