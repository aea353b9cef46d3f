"""A stand-in for the server of Weights & Biases: keeps what real clients upload, and gives it back to them.

It knows what wandb 0.31 asks for runs with summaries, files and artifacts, and answers anything else with nothing.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4
ENTITY, PROJECT = "us", "mage"
OWNER = {"id": "p", "internalId": "1", "name": PROJECT, "entity": {"id": "e", "name": ENTITY}}
LAST_PAGE = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
DAY = "2026-01-01T00:00:00Z"


class WandbServer(ThreadingHTTPServer):
    """`runs` by id, `artifacts` in the order of their creation. `stalls`: a path with this in it is never answered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.stalls = ""
        self.closed = threading.Event()

    def die(self) -> None:
        """Stop listening: who asks next is refused."""
        self.shutdown()
        self.server_close()
        self.closed.set()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error."""

    def answer(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """Answer a request of GraphQL by the name of its operation."""
        operation = getattr(self, re.sub(r"(?<=[a-z])(?=[A-Z])|^", "_", name).lower(), None)
        return operation(given) if operation else {}

    def _viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        flags = {"flags": "{}", "teams": {"edges": []}}
        return {"viewer": {"id": "u", "entity": ENTITY, "username": ENTITY, "email": "", **flags}}

    _get_default_entity = _viewer

    def _upsert_bucket(self, given: dict[str, Any]) -> dict[str, Any]:
        new = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], {"id": given["name"], "lines": {}, "config": {}, "exits": []})
        run |= {key: given[key] for key in ("displayName", "groupName", "jobType") if given.get(key) is not None}
        run["config"] = json.loads(given["config"]) if given.get("config") else run["config"]
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": new}}

    def _run_resume_status(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(given["name"])
        return {"model": {**OWNER, "bucket": self._bucket(run) if run else None}}

    def _bucket(self, run: dict[str, Any]) -> dict[str, Any]:
        counts = {"historyLineCount": len(run["lines"].get("wandb-history.jsonl", [])), "logLineCount": 0}
        tails = {
            "eventsLineCount": 0,
            "historyTail": "[]",
            "eventsTail": "[]",
            "summaryMetrics": json.dumps(summary(run)),
        }
        names = {"id": run["id"], "name": run["id"], "displayName": run.get("displayName"), "project": OWNER}
        empty = {"description": "", "sweepName": None, "tags": [], "notes": "", "wandbConfig": "{}"}
        return {**names, "config": json.dumps(run["config"]), **counts, **tails, **empty}

    def _create_run_files(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": self._place(given["run"], name)} for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def _artifact_type(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _create_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        asked = given["input"]
        known = {"name": asked["artifactCollectionName"], "type": asked["artifactTypeName"], "run": asked["runName"]}
        artifact = {"id": f"artifact{len(self.artifacts)}", "digest": asked["digest"], "state": "PENDING", **known}
        self.artifacts.append(artifact)
        told = {"id": artifact["id"], "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": told}}

    def _create_artifact_manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        file = self._upload(given["artifactID"], "manifest")
        return {"createArtifactManifest": {"artifactManifest": {"id": given["artifactID"], "file": file}}}

    def _update_artifact_manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        file = self._upload(given["artifactManifestID"], "manifest")
        return {"updateArtifactManifest": {"artifactManifest": {"id": given["artifactManifestID"], "file": file}}}

    def _create_artifact_files(self, given: dict[str, Any]) -> dict[str, Any]:
        asked = given["input"]["artifactFiles"] if "input" in given else given["artifactFiles"]
        nodes = [self._upload(file["artifactID"], file["name"]) for file in asked]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _commit_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        (found,) = (artifact for artifact in self.artifacts if artifact["id"] == given["artifactID"])
        found["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": found["id"], "digest": found["digest"]}}}

    def _runs(self, given: dict[str, Any]) -> dict[str, Any]:
        group = json.loads(given["filters"])["group"]
        nodes = [self._listed(run) for run in self.runs.values() if run.get("groupName") == group]
        runs = {
            "totalCount": len(nodes),
            "edges": [{"node": n, "cursor": n["id"]} for n in nodes],
            "pageInfo": LAST_PAGE,
        }
        return {"project": {**OWNER, "runCount": len(nodes), "readOnly": False, "runs": runs}}

    def _listed(self, run: dict[str, Any]) -> dict[str, Any]:
        names = {"id": run["id"], "name": run["id"], "displayName": run["displayName"], "group": run["groupName"]}
        times = {"createdAt": DAY, "heartbeatAt": DAY, "historyLineCount": 0, "commit": None, "readOnly": False}
        empty = {"tags": [], "sweepName": None, "description": "", "notes": ""}
        user = {"user": {"name": ENTITY, "username": ENTITY}}
        return {**names, "state": "finished", "jobType": run["jobType"], **times, **empty, **user}

    def _run_output_artifacts(self, given: dict[str, Any]) -> dict[str, Any]:
        nodes = []
        for version, artifact in enumerate(self.artifacts):
            sequence = {"__typename": "ArtifactSequence", "name": artifact["name"], "project": OWNER}
            kind = {"artifactSequence": sequence, "versionIndex": version, "artifactType": {"name": artifact["type"]}}
            told = {"id": artifact["id"], "state": artifact["state"], "digest": artifact["digest"], "metadata": "{}"}
            empty = {"description": None, "ttlDurationSeconds": -1, "ttlIsInherited": False, "tags": [], "aliases": []}
            rest = {
                "historyStep": None,
                "size": 1,
                "commitHash": "c",
                "fileCount": 2,
                "createdAt": DAY,
                "updatedAt": None,
            }
            if artifact["run"] == given["run"] and artifact["state"] == "COMMITTED":
                nodes.append({"__typename": "Artifact", **kind, **told, **empty, **rest})
        page = {"totalCount": len(nodes), "pageInfo": LAST_PAGE, "edges": [{"node": node} for node in nodes]}
        return {"project": {"run": {"artifacts": page}}}

    def _fetch_artifact_manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"artifact": {"currentManifest": {"file": {"directUrl": self._place(given["id"], "manifest")}}}}

    def _upload(self, owner: str, name: str) -> dict[str, Any]:
        place = {"uploadUrl": self._place(owner, name), "uploadHeaders": [], "uploadMultipartUrls": None}
        return {"id": name, "name": name, "displayName": name, "storagePath": name, "artifact": {"id": owner}, **place}

    def _place(self, owner: str, name: str) -> str:
        return f"{self.address}/storage/{owner}/{name}"


class Handler(BaseHTTPRequestHandler):
    """Requests over HTTP: GraphQL, lines of a run's files, whole files."""

    server: WandbServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        content = self._read()
        if self.path == "/graphql":
            asked = json.loads(content)
            name = asked.get("operationName") or asked["query"].split("(")[0].split("{")[0].split()[-1]
            self._give(json.dumps({"data": self.server.answer(name, asked.get("variables") or {})}).encode())
        elif self.path.endswith("/file_stream"):
            run, told = self.server.runs[self.path.split("/")[-2]], json.loads(content)
            for file, lines in (told.get("files") or {}).items():
                run["lines"].setdefault(file, []).extend(lines["content"])
            run["exits"] += [told["exitcode"]] if told.get("complete") else []
            self._give(b"{}")
        else:
            self._give(b"{}")

    def do_PUT(self) -> None:
        self.server.files[self.path] = self._read()
        self._give(b"")

    def do_GET(self) -> None:
        *_, owner, _, name = ["", "", *self.path.split("/")]
        path = f"/storage/{owner}/{name}" if self.path.startswith("/artifactsV2/") else self.path
        found = self.server.files.get(path)
        self._give(found or b"", 200 if found is not None else 404)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def _read(self) -> bytes:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.stalls and self.server.stalls in self.path:
            self.server.closed.wait()
        return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

    def _give(self, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def summary(run: dict[str, Any]) -> dict[str, Any]:
    """What a run shows as its summary."""
    lines = run["lines"].get("wandb-summary.json")
    return json.loads(lines[-1]) if lines else {}


@contextmanager
def serving() -> Iterator[WandbServer]:
    """A server that listens."""
    server = WandbServer()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        if not server.closed.is_set():
            server.die()
