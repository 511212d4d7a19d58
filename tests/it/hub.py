"""A model hub on loopback: repositories from folders, with the answers that the real one gives.

    python tests/it/hub.py FOLDER        prints its port; FOLDER/ORG/NAME/... are the repositories

Speaks GET /api/models/ORG/NAME/revision/REV?blobs=true (sha, siblings with size and lfs.sha256, cardData) and
GET /ORG/NAME/resolve/COMMIT/PATH, which redirects large files to /cdn/..., where ranges work. Steering, for tests:
ORG `private` wants the token `secret`; a repository with a file `.cut` breaks each of its large answers off in the
middle, once; one with `.wrong` states wrong digests; one with `.slow` knows no ranges. GET /log gives what was asked.
"""

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 4096


class Hub(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    root: Path
    log: list[dict] = []
    cut: set[str] = set()

    def log_message(self, *_):
        pass

    def answer(self, status: int, body: bytes = b"", **headers) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        token = self.headers.get("Authorization", "")
        self.log.append({"path": path, "range": self.headers.get("Range"), "token": token})
        if path == "/log":
            return self.answer(200, json.dumps(self.log).encode())
        if path.startswith("/cdn/"):
            return self.file(self.root / path.removeprefix("/cdn/"))
        if path.startswith("/private/") or path.startswith("/api/models/private/"):
            if token != "Bearer secret":
                return self.answer(401)
        if path.startswith("/api/models/"):
            name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            return self.repository(self.root / name, revision)
        name, found, rest = path.partition("/resolve/")
        commit, _, inner = rest.partition("/")
        file = self.root / name.strip("/") / inner
        if not found or commit != COMMIT or not file.is_file():
            return self.answer(404)
        if file.stat().st_size >= LARGE:
            location = f"/cdn{name}/{inner}"
            return self.answer(302, Location=location, X_Repo_Commit=COMMIT, X_Linked_Size=file.stat().st_size)
        return self.answer(200, file.read_bytes())

    def repository(self, folder: Path, revision: str) -> None:
        if not folder.is_dir() or revision not in ("main", COMMIT):
            return self.answer(404)
        siblings = []
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            name, body = file.relative_to(folder).as_posix(), file.read_bytes()
            entry = {"rfilename": name, "size": len(body), "blobId": hashlib.sha1(body).hexdigest()}
            if len(body) >= LARGE:
                digest = hashlib.sha256(b"wrong" if (folder / ".wrong").exists() else body).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(body), "pointerSize": 135}
            siblings.append(entry)
        card = {"license": "apache-2.0", "library_name": "transformers.js"}
        body = {"id": f"{folder.parent.name}/{folder.name}", "sha": COMMIT, "siblings": siblings, "cardData": card}
        self.answer(200, json.dumps(body).encode(), Content_Type="application/json")

    def file(self, file: Path) -> None:
        body, start = file.read_bytes(), 0
        repository = self.root.joinpath(*file.relative_to(self.root).parts[:2])
        asked = self.headers.get("Range")
        if asked and not (repository / ".slow").exists():
            start = int(asked.removeprefix("bytes=").split("-")[0])
            if start >= len(body):
                return self.answer(416, Content_Range=f"bytes */{len(body)}")
        part = body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if (repository / ".cut").exists() and str(file) not in self.cut:
            self.cut.add(str(file))
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
            return
        self.wfile.write(part)


def main() -> None:
    """Serves until the process is ended."""
    Hub.root = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
