"""`hostctl build --check`, from the command line to the exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

GOOD = (
    '# check=experimental=all\n\nFROM debian:12 AS base\nFROM base\nCOPY app /app\nCMD ["/app"]\n'
)


def check(folder: Path, *argv: str, stdin: str = "") -> tuple[int, str, str]:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "hostctl"), "build", "--check", *argv],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_findings_and_errors_are_told_apart_from_none(tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(GOOD)
    assert check(tmp_path, ".") == (0, "Check complete, no warnings found.\n", "")

    (tmp_path / ".dockerignore").write_text("app\n")
    code, out, _ = check(tmp_path, ".")
    assert code == 1
    assert "WARNING: CopyIgnoredFile" in out and "   5 | >>> COPY app /app" in out
    assert check(tmp_path, "--target", "base", ".")[0] == 0

    code, out, err = check(tmp_path, "-", stdin="FROM debian:12\nRNU x\n")
    assert (code, out) == (1, "")
    assert "Dockerfile:2" in err and "   2 | RNU x" in err and "did you mean RUN?" in err
