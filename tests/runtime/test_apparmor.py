"""Runs on the test machine: which containers get hostctl's own AppArmor profile, and when it is loaded.

The kernel here may have no AppArmor: its files and the parser are stand-ins. What the rules do is told on
virtual machines (`tests/vagrant`).
"""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.runtime import apparmor, labels
from hostctl_host.runtime.config import APPARMOR, RuntimeFailure

PARSER = """\
#!/bin/sh
echo "$@" >> {folder}/calls
test ! -e {folder}/broken || {{ echo "no such rule at line 3" >&2; exit 1; }}
for last in "$@"; do :; done
sed -n 's/^profile \\([^ ]*\\) .*/\\1 (enforce)/p' "$last" >> {folder}/policy/profiles
"""


class Kernel:
    """What stands in for a host: securityfs, the parser and its files."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.run = folder / "run"
        self.rules = folder / "apparmor.d"
        self.parser = folder / "apparmor_parser"
        self.enabled = folder / "enabled"
        self.profiles = folder / "policy" / "profiles"
        for made in (self.run, self.rules, self.profiles.parent):
            made.mkdir()
        self.profiles.write_text("/usr/sbin/thing (enforce)\nhostctl-default-not (complain)\n")
        self.enabled.write_text("Y\n")
        self.parser.write_text(PARSER.format(folder=folder))
        self.parser.chmod(0o755)
        monkeypatch.setattr(labels, "ENABLED", str(self.enabled))
        monkeypatch.setattr(apparmor, "POLICY", str(self.profiles.parent))
        monkeypatch.setattr(apparmor, "RULES", str(self.rules))
        monkeypatch.setattr(apparmor, "PARSERS", ("/nowhere/apparmor_parser", str(self.parser)))

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def resolve(self, *, load: bool = True, **annotations: str) -> str | None:
        config: dict[str, Any] = {
            "process": {},
            "annotations": annotations or {APPARMOR: apparmor.DEFAULT},
        }
        found = apparmor.resolve(config, str(self.run), load=load)["process"]
        name: str | None = found.get("apparmorProfile")
        return name


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(tmp_path, monkeypatch)


def test_it_is_loaded_once_and_again_after_a_boot(kernel: Kernel) -> None:
    for _ in range(3):
        assert kernel.resolve() == apparmor.NAME
    file = kernel.run / apparmor.FILE
    assert kernel.calls == [f"--skip-cache --replace {file}.new"]
    assert f"profile {apparmor.NAME} flags=" in file.read_text()
    # A boot takes the kernel's profiles, and the run folder.
    kernel.profiles.write_text("")
    file.unlink()
    assert kernel.resolve() == apparmor.NAME
    assert len(kernel.calls) == 2
    # Somebody's hand takes the profile alone.
    kernel.profiles.write_text("")
    assert kernel.resolve() == apparmor.NAME
    assert len(kernel.calls) == 3


def test_another_version_loads_its_own_rules(kernel: Kernel) -> None:
    kernel.resolve()
    (kernel.run / apparmor.FILE).write_text("# of an older version\n")
    assert kernel.resolve() == apparmor.NAME
    assert len(kernel.calls) == 2
    assert (kernel.run / apparmor.FILE).read_text() == apparmor.profile()


def test_what_a_kill_has_left_is_overwritten(kernel: Kernel) -> None:
    (kernel.run / f"{apparmor.FILE}.new").write_text("half of i")
    assert kernel.resolve() == apparmor.NAME
    assert sorted(path.name for path in kernel.run.iterdir()) == ["apparmor", "apparmor.lock"]


def test_what_joins_a_container_loads_nothing(kernel: Kernel) -> None:
    assert kernel.resolve(load=False) is None
    kernel.resolve()
    assert kernel.resolve(load=False) == apparmor.NAME
    assert len(kernel.calls) == 1


@pytest.mark.parametrize("lacks", ["module", "parser", "policy", "wish"])
def test_a_host_that_cannot_confines_nothing(kernel: Kernel, lacks: str) -> None:
    if lacks == "module":
        kernel.enabled.write_text("N\n")
    elif lacks == "parser":
        kernel.parser.unlink()
    elif lacks == "policy":
        kernel.profiles.unlink()
        kernel.profiles.parent.rmdir()
    found = kernel.resolve(**({"other": "x"} if lacks == "wish" else {}))
    assert found is None
    assert kernel.calls == []
    assert list(kernel.run.iterdir()) == []


def test_rules_that_the_parser_refuses_are_an_error(kernel: Kernel) -> None:
    (kernel.folder / "broken").touch()
    with pytest.raises(RuntimeFailure, match="no such rule at line 3") as refused:
        kernel.resolve()
    assert "apparmor=unconfined" in refused.value.hint
    assert not (kernel.run / apparmor.FILE).exists()
    (kernel.folder / "broken").unlink()
    assert kernel.resolve() == apparmor.NAME


def test_a_parser_that_hangs_is_ended(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apparmor, "_SECONDS", 0.2)
    kernel.parser.write_text("#!/bin/sh\nexec sleep 1000\n")
    with pytest.raises(RuntimeFailure, match=r"it took more than 0\.2 s"):
        kernel.resolve()


def _start(run: str) -> None:
    config: dict[str, Any] = {"process": {}, "annotations": {APPARMOR: apparmor.DEFAULT}}
    found = apparmor.resolve(config, run, load=True)
    os._exit(0 if found["process"].get("apparmorProfile") == apparmor.NAME else 1)


def test_many_that_start_at_once_load_it_once(kernel: Kernel) -> None:
    fork = multiprocessing.get_context("fork")
    started = [fork.Process(target=_start, args=(str(kernel.run),)) for _ in range(6)]
    for one in started:
        one.start()
    for one in started:
        one.join()
    assert [one.exitcode for one in started] == [0] * 6
    assert len(kernel.calls) == 1


def test_the_rules_are_for_the_parser_that_is_there(kernel: Kernel) -> None:
    bare = apparmor.profile()
    assert "abi/" not in bare
    assert "#include" not in bare
    assert "@{PROC}=/proc/\n" in bare
    for name in ("abi/3.0", "tunables/global", "abstractions/base"):
        path = kernel.rules / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    full = apparmor.profile()
    assert full.index("abi <abi/3.0>,\n") < full.index("#include <tunables/global>\n")
    inside = full.partition(f"profile {apparmor.NAME} ")[2]
    assert "  #include <abstractions/base>\n" in inside
    assert "@{PROC}=" not in full


def test_the_rules_braces_are_balanced(kernel: Kernel) -> None:
    """A template's braces are doubled: none is left so."""
    text = apparmor.profile()
    assert text.count("{") == text.count("}")
    assert "{{" not in text
    assert f"peer={apparmor.NAME}," in text


def test_an_init_takes_the_profile_without_executing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "_APPARMOR", str(tmp_path))
    current = tmp_path / "current"
    current.touch()
    found = labels.Labels("some-profile", "")
    assert found.filenos() == ()
    found.enter_staying()
    (fd,) = found.filenos()
    found.confine()
    assert current.read_text() == "changeprofile some-profile"
    assert found.filenos() == ()
    with pytest.raises(OSError):
        os.fstat(fd)
    # Of SELinux there is nothing to be taken so.
    other = labels.Labels("", "a:b:c:d")
    other.enter_staying()
    other.confine()
    assert current.read_text() == "changeprofile some-profile"
