"""The client in the README, run as it stands there against a server."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from readmes import ROOT
from served import process

README = ROOT / "aes_dynloss" / "serving" / "README.md"
pytestmark = pytest.mark.slow


def client(url: str, prompt: str = "letter") -> subprocess.CompletedProcess[str]:
    """Run the client, which asks another server about another prompt."""
    (code,) = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for old, new in {"http://127.0.0.1:8000": url, "phones": prompt}.items():
        assert old in code
        code = code.replace(old, new)
    assert len([line for line in code.splitlines() if line]) <= 20
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_the_client(model, tmp_path):
    with process(model, tmp_path) as served:
        right = client(served.url)
        assert right.returncode == 0, right.stderr
        assert re.fullmatch(r"\[\([1-6]\.0, \[\]\)\]\n", right.stdout)
        wrong = client(served.url, "poem")
        assert wrong.stderr.strip().endswith("prompt_id 'poem' is not known to the model, which knows letter, notice.")


def test_the_client_comes_again_where_the_queue_is_full(model, tmp_path):
    import http.server
    import threading

    asked = []

    class Busy(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            content = b'{"scores": [{"score": 3.0, "advisories": []}]}' if len(asked) > 1 else b'{"detail": "full"}'
            self.send_response(200 if len(asked) > 1 else 503)
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        outcome = client(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert (outcome.stdout, len(asked)) == ("[(3.0, [])]\n", 2)


def test_files_that_the_readme_names_are_all_that_there_are():
    named = set(
        re.findall(r"`(\w+\.(?:py|html|css|js))`", README.read_text(encoding="utf-8").split("## Where things are")[1])
    )
    there = {path.name for path in README.parent.iterdir() if path.is_file()} - {"README.md", "__init__.py"}
    assert named == there


def test_the_tables_of_counts_and_types_are_those_of_the_code():
    pytest.importorskip("prometheus_client")
    from aes_dynloss.serving.metrics import PrometheusMetrics
    from aes_dynloss.serving.tables import READ_TYPES

    text = README.read_text(encoding="utf-8")
    counts = PrometheusMetrics(lambda _: 0, ["score"])
    counts.request("/", 200, 0.1)
    for line in counts.text().decode().splitlines():
        if line.startswith("# TYPE") and not line.split()[2].endswith("_created"):
            assert f"| `{line.split()[2].removeprefix('aes_dynloss_')}` |" in text
    for media_type, suffix in READ_TYPES.items():
        assert re.search(rf"\| {suffix[1:]}[^|]* \| `{re.escape(media_type)}` \|", text)
