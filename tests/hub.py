"""A stand-in for the Hugging Face Hub's HTTP interface, as far as huggingface_hub uses it for small repositories."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator


class Hub(http.server.ThreadingHTTPServer):
    """Repositories in memory.

    Attributes:
        repos: "user/name" -> path of a file -> its content.
        cut: names of files whose downloads end half-way.
        requests: paths of all requests.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.cut: set[str] = set()
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    """Start a hub, and stop it at the end."""
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield hub
        hub.shutdown()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_):
        pass

    def answer(self, code: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_json(self, values: object, code: int = 200) -> None:
        self.answer(code, json.dumps(values).encode(), Content_Type="application/json")

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.requests.append(self.path)
        match = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/([^?]+)", self.path)
        if match is None:
            return self.answer_json({"error": f"no {self.path}"}, 404)
        repo, _, name = match.groups()
        if repo not in self.server.repos:
            return self.answer(401, X_Error_Code="RepoNotFound", X_Error_Message="Repository Not Found")
        content = self.server.repos[repo].get(name)
        if content is None:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found")
        digest = hashlib.sha1(content).hexdigest()
        headers = {"X_Repo_Commit": digest, "ETag": f'"{digest}"'}
        if self.command == "GET" and name in self.server.cut:
            self.send_response(200)
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return None
        return self.answer(200, content, **headers)

    def do_POST(self):
        self.server.requests.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/api/validate-yaml":
            return self.answer_json({"errors": [], "warnings": []})
        if self.headers["Authorization"] != "Bearer right":
            return self.answer_json({"error": "Invalid username or password."}, 401)
        if self.path == "/api/repos/create":
            values = json.loads(body)
            repo = f"{values['organization']}/{values['name']}"
            self.server.repos.setdefault(repo, {})
            return self.answer_json({"url": f"{self.server.address}/{repo}", "id": repo})
        match = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/(preupload|commit)/main(\?.*)?", self.path)
        if match is None:
            return self.answer_json({"error": f"no {self.path}"}, 404)
        if match[2] == "preupload":
            files = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            return self.answer_json({"files": modes})
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                value = entry["value"]
                self.server.repos[match[1]][value["path"]] = base64.b64decode(value["content"])
        oid = hashlib.sha1(body).hexdigest()
        return self.answer_json({"commitUrl": f"{self.server.address}/{match[1]}/commit/{oid}", "commitOid": oid})
