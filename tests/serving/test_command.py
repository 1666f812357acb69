"""`charlm serve` as it is typed."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from served import Running, message, parsed

import charlm

Typed = Callable[..., tuple[int, str, str]]
PROMPT = "PEG:\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_the_first_line_works_and_sigterm_finishes_what_was_begun(trained: Path) -> None:
    """New requests are refused meanwhile, and the server ends with 0."""
    command = [sys.executable, "-m", "charlm", "serve", str(trained), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        where, curl = process.stdout.readline(), process.stdout.readline()
        found = re.search(r"http://127.0.0.1:(\d+)/v1,", where)
        assert found
        server = Running([], int(found[1]))
        body = re.search(r"-d '(.*)'$", curl.strip())
        assert body
        status, _, got = server.post("/v1/completions", body[1].encode())
        assert (status, got["usage"]["completion_tokens"]) == (200, 100)
        assert got["model"] in where
        with server.connection() as made, server.connection() as other:
            made.sendall(message("POST", "/v1/completions", {"prompt": PROMPT, "max_tokens": 30_000, "seed": 1}))
            streaming = {"prompt": PROMPT, "max_tokens": 30_000, "seed": 2, "stream": True}
            other.sendall(message("POST", "/v1/completions", streaming))
            begun = other.recv(1 << 16)
            process.send_signal(signal.SIGTERM)
            while (answer := server.get("/healthz"))[0] == 200:
                pass
            assert answer[0] == 503
            assert "about to end" in answer[2]["error"]["message"]
            whole, stream = b"", begun
            while part := made.recv(1 << 16):
                whole += part
            while part := other.recv(1 << 16):
                stream += part
        assert parsed(whole)[2]["choices"][0]["text"] == charlm.load(trained).sample(PROMPT, 30_000, seed=1)
        assert b"data: [DONE]" in stream
        assert process.wait(20) == 0


def test_what_cannot_be_served_is_refused_in_a_line(
    typed: Typed, trained: Path, translator: Path, masked: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "keys"
    empty.write_text("\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for words, message in [
            ([translator], "charlm translate"),
            ([masked], "charlm fill"),
            (["nowhere"], "no run 'nowhere'"),
            ([trained, "--port", str(taken.getsockname()[1])], "give another --port"),
            ([trained, "--port", "70000"], "--port must be at most 65535"),
            ([trained, "--host", "no.such.host.invalid"], "--host no.such.host.invalid is no address"),
            ([trained, "--api-key-file", empty], "holds no key"),
            ([trained, "--api-key-file", tmp_path / "none"], "none cannot be read"),
            ([trained, "--queue", "0"], "--queue must be at least 1"),
        ]:
            code, out, err = typed("serve", *(["--port", "0"] if "--port" not in words else []), *words)
            assert (code, out, err.count("\n")) == (2, "", 1), err
            assert message in err


def test_help_needs_no_torch_and_no_server() -> None:
    code = (
        "import sys; from charlm.cli.app import run; run(['serve', '--help']); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'uvicorn', 'starlette')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
