"""`aes-dynloss serve`: its words and how it ends; tests/serving asks it for scores."""

from __future__ import annotations

import http.client
import importlib.util
import json
import socket
import urllib.error
import urllib.request

import pytest
from command_line import command
from served import process
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

pytestmark = pytest.mark.slow

for _name in ("fastapi", "uvicorn"):
    pytest.importorskip(_name, reason="the extra `serve` is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    tiny_scorer(write_tiny_encoder(folder / "encoder")).save_pretrained(folder / "model")
    return folder / "model"


def test_it_prints_where_it_is_once_it_answers(model, tmp_path):
    with process(model, tmp_path) as served:
        assert (served.host, served.port > 0) == ("127.0.0.1", True)
        with urllib.request.urlopen(f"{served.url}/health", timeout=30) as answer:
            assert json.load(answer)["model"] == f"{model.parent.name}/model"
        assert "Serving " in served.err
        again = command("serve", model, "--port", served.port)
        assert (again.code, again.out) == (2, "")
        assert again.error == (
            f"Port {served.port} of 127.0.0.1 is in use. Stop what listens there, or choose another --port; 0 is any."
        )
    assert served.err.splitlines()[-1].endswith(" Stopped: 1 of 1 requests were answered.")
    assert (tmp_path / "out").read_text() == f"{served.url}\n"


def test_a_port_that_is_taken_while_the_model_is_read(model):
    from aes_dynloss.errors import ConfigError
    from aes_dynloss.serving.limits import Limits
    from aes_dynloss.serving.server import bound_socket, run_server

    with bound_socket("127.0.0.1", 0) as ours, socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        theirs.bind(ours.getsockname())
        theirs.listen()
        with pytest.raises(ConfigError, match="is in use"):
            run_server(None, ours, limits=Limits(), hosts=None, ready=lambda: None)


def test_names_by_which_it_is_asked():
    from aes_dynloss.serving.server import bound_socket, hosts_of, is_loopback

    with bound_socket("127.0.0.1", 0) as bound:
        assert is_loopback(bound)
        assert hosts_of(bound, "127.0.0.1", ()) == {"127.0.0.1", "localhost", "[::1]"}
        assert hosts_of(bound, "127.0.0.1", ("scores.example",)) == {
            "127.0.0.1",
            "localhost",
            "[::1]",
            "scores.example",
        }
    with bound_socket("0.0.0.0", 0) as bound:
        assert not is_loopback(bound)
        assert hosts_of(bound, "0.0.0.0", ()) is None
        assert "scores.example" in hosts_of(bound, "0.0.0.0", ("scores.example",))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("scores.example", "scores.example"),
        ("Scores.Example:8443", "scores.example"),
        (" scores.example ", "scores.example"),
        ("10.0.0.7:80", "10.0.0.7"),
        ("[fe80::1]:8000", "[fe80::1]"),
        ("[fe80::1]", "[fe80::1]"),
        ("fe80::1", "[fe80::1]"),
    ],
)
def test_a_further_name_is_taken_without_its_port(given, name):
    from aes_dynloss.serving.guards import allowed_name, host_name

    assert allowed_name(given) == name
    assert host_name(f"{name}:8000") == name


@pytest.mark.parametrize(
    "given", ["https://a.example", "a.example/", "", " ", ":8000", "*", "*.example", "a b", "a.example:x"]
)
def test_a_further_name_that_is_none(given):
    from aes_dynloss.errors import ConfigError
    from aes_dynloss.serving.guards import allowed_name

    with pytest.raises(
        ConfigError, match=r"expected the name of a host alone, such as scores\.example, without http://"
    ):
        allowed_name(given)


def test_it_answers_to_a_further_name_that_was_given_with_a_port(model, tmp_path):
    with process(model, tmp_path, "--allowed-host", "scores.example:443") as served:
        for host, status in (("scores.example", 200), ("scores.example:443", 200), ("other.example", 400)):
            asked = urllib.request.Request(f"{served.url}/health", headers={"Host": host})
            try:
                found = urllib.request.urlopen(asked, timeout=30).status
            except urllib.error.HTTPError as error:
                found = error.code
            assert found == status


@pytest.mark.parametrize("path", ["/", "/health"])
def test_head_answers_as_get_without_a_body(model, tmp_path, path):
    with process(model, tmp_path) as served:
        answers = []
        for method in ("HEAD", "GET"):
            connection = http.client.HTTPConnection(served.host, served.port, timeout=30)
            connection.request(method, path)
            answer = connection.getresponse()
            answers.append((answer.status, answer.getheader("content-type"), answer.read() != b""))
            connection.close()
    (head, get) = answers
    assert head == (200, get[1], False)
    assert get[2]


def test_a_coverage_beyond_dev_is_told_once_at_the_start(tmp_path):
    from aes_dynloss.measures.intervals import Intervals, PromptErrors

    scorer = tiny_scorer(write_tiny_encoder(tmp_path / "encoder"))
    scorer.intervals = Intervals({prompt: PromptErrors((0.5,), 1) for prompt in scorer.prompts})
    scorer.save_pretrained(tmp_path / "model")
    with process(tmp_path / "model", tmp_path, "--coverage", "0.999") as served:
        body = json.dumps({"essays": [{"prompt_id": "letter", "text": "The otter."}]}).encode()
        asked = urllib.request.Request(f"{served.url}/score", body, {"Content-Type": "application/json"})
        for _ in range(2):
            with urllib.request.urlopen(asked, timeout=30) as answer:
                assert json.load(answer)["scores"][0]["low"] is None
    for prompt in scorer.prompts:
        assert served.err.count(f"Prompt {prompt}: 1 dev essay tells intervals") == 1


def test_an_address_of_the_new_kind():
    from aes_dynloss.errors import ConfigError
    from aes_dynloss.serving.server import bound_socket, hosts_of, is_loopback, url_of

    try:
        bound = bound_socket("::1", 0)
    except ConfigError:
        pytest.skip("this machine has no IPv6")
    with bound:
        assert url_of(bound).startswith("http://[::1]:")
        assert is_loopback(bound)
        assert "[::1]" in hosts_of(bound, "::1", ())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid: there is no host of this name."),
        (["--host", "192.0.2.1"], "Cannot listen on port 8000 of 192.0.2.1: "),
        (["--port", "70000"], "70000 is not in the range"),
        (["--coverage", "1"], "1.0 is not in the range"),
        (["--batch-size", "0"], "Invalid value for '--batch-size': 0 is not in the range"),
        (["--max-body", "63"], "Invalid value for '--max-body': 63 is not in the range"),
        (["--max-queue", "10"], "--max-queue is 10, below --max-essays, 256: a request of so many essays could never"),
        (["--max-essays", "1025"], "--max-queue is 1024, below --max-essays, 1025: "),
        (["--policy", "off_topic"], "Policy 'off_topic': expected KIND=ACTION, such as off_topic=advise."),
        (["--allowed-host", "http://a.example"], "--allowed-host http://a.example: expected the name of a host alone"),
    ],
)
def test_mistakes(model, words, message):
    outcome = command("serve", model, *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.error


def test_a_model_that_is_none(tmp_path):
    outcome = command("serve", tmp_path / "none", "--port", 0)
    assert (outcome.code, outcome.out) == (2, "")
    assert "There is no model folder" in outcome.error
    (tmp_path / "x.zip").write_text("words")
    outcome = command("serve", tmp_path / "x.zip", "--port", 0)
    assert (outcome.code, outcome.out) == (2, "")
    assert "x.zip cannot be unpacked: it is no zip file. Fetch it again." in outcome.error


def test_several_processes(model, monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 2)
    assert "aes-dynloss serve is one process" in command("serve", model, "--port", 0).error


def test_without_what_it_needs(model, monkeypatch):
    plain = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "uvicorn" else plain(name, *more)
    )
    outcome = command("serve", model)
    assert outcome.code == 2
    assert outcome.error == (
        "aes-dynloss serve needs FastAPI and uvicorn. Install them: pip install 'aes-dynloss[serve]'."
    )
