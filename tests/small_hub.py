"""A hub on 127.0.0.1 that speaks the few endpoints a download needs, and can misbehave."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40


class SmallHub:
    """Repositories as `{id: {path: bytes}}`; `cut_after` bytes a file's sending breaks off."""

    def __init__(self, repositories):
        self.repositories = repositories
        self.cut_after = None
        self.gated = set()
        self.broken = set()
        self.stalls = None  # an event that a file's sending waits for after `cut_after` bytes
        self.reached = threading.Event()
        self.requests = []  # (method, path, range)

    def ranges(self, name):
        """The ranges that were asked of a file by GET."""
        return [r for method, path, r in self.requests if method == "GET" and name in path]


def etag_of(data, is_large):
    return hashlib.sha256(data).hexdigest() if is_large else hashlib.sha1(data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: SmallHub

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, *, with_body):
        path = self.path.partition("?")[0]
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        parts = path.strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        repository = "/".join(parts[2:4] if is_api else parts[:2])
        if repository in self.hub.broken:
            return self.refuse(500, "ServerError")
        if repository not in self.hub.repositories:
            return self.refuse(404, "RepoNotFound")
        if is_api:
            return self.send_api(repository, parts[4:])
        if repository in self.hub.gated:
            return self.refuse(403, "GatedRepo")
        return self.send_file(repository, "/".join(parts[4:]), with_body)

    def refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_api(self, repository, rest):
        files = self.hub.repositories[repository]
        is_tree = rest[:1] == ["tree"]
        described = [self.describe(name, data, is_tree) for name, data in files.items()]
        about = {
            "_id": "1",
            "id": repository,
            "modelId": repository,
            "sha": COMMIT,
            "tags": [],
            "downloads": 0,
            "siblings": described,
        }
        body = json.dumps(described if is_tree else about).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def describe(self, name, data, is_tree):
        is_large = name.endswith(".safetensors")
        etag = etag_of(data, is_large)
        blob = hashlib.sha1(data).hexdigest()
        described = {"size": len(data)}
        if is_tree:
            described |= {"type": "file", "path": name, "oid": blob}
        else:
            described |= {"rfilename": name, "blobId": blob}
        if is_large:
            sha = {"oid" if is_tree else "sha256": etag, "size": len(data), "pointerSize": 1}
            described["lfs"] = sha
        return described

    def send_file(self, repository, name, with_body):
        data = self.hub.repositories[repository].get(name)
        if data is None:
            return self.refuse(404, "EntryNotFound")
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{etag_of(data, name.endswith(".safetensors"))}"')
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        return self.send_body(data[start:], name) if with_body else None

    def send_body(self, data, name):
        cut = self.hub.cut_after if name.endswith(".safetensors") else None
        if cut is None or len(data) <= cut:
            self.wfile.write(data)
            return
        self.wfile.write(data[:cut])
        self.wfile.flush()
        self.hub.reached.set()
        if self.hub.stalls is not None:
            self.hub.stalls.wait(60)
        self.close_connection = True


@contextmanager
def running(hub):
    """The address of a hub that runs during the block."""
    handler = type("HandlerOfHub", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        if hub.stalls is not None:
            hub.stalls.set()
        server.shutdown()
        thread.join()
        server.server_close()
