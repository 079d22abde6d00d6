"""RSMTool in an environment of its own, asked from this one."""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import contextmanager

import rsmtool_answers


@contextmanager
def rsmtool_calls(python):
    """A function that calls RSMTool's functions by name; one process answers all calls.

    Args:
        python: The interpreter of an environment that has RSMTool.
    """
    script, pipe = rsmtool_answers.__file__, subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen([python, script], stdin=pipe, stdout=pipe, stderr=errors, encoding="utf-8") as process,
    ):

        def call(name, *arguments, **options):
            options = {key: rsmtool_answers.encode(value) for key, value in options.items()}
            question = {"call": name, "arguments": rsmtool_answers.encode(arguments), "options": options}
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                process.wait()
                errors.seek(0)
                raise RuntimeError(f"RSMTool's process ended without an answer:\n{errors.read()}")
            answer = json.loads(line)
            if "fault" in answer:
                raise RuntimeError(f"RSMTool's {name} raised:\n{answer['fault']}")
            return rsmtool_answers.decode(answer["value"])

        yield call
