"""`hostctl build` on this machine: cache, failures, secrets, mounts, reproducibility, what a kill leaves."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

from tests.builder.trees import tree_of


def steps(done) -> list[str]:
    """The steps that were done, without those from the cache and without their output."""
    lines = [line for line in done.stderr.splitlines() if re.match(r"\[\S+ \d+/\d+\] [^|]", line)]
    return [line.split("] ", 1)[1] for line in lines if not line.endswith("(cached)")]


def image(hostctl, name: str) -> dict:
    return hostctl.store.config(hostctl.store.resolve(name))


def test_a_second_build_runs_nothing_and_gives_the_same_image(hostctl, context) -> None:
    folder = context("FROM BASE\nCOPY a /a\nRUN cat /a > /b\nENV X=1\nRUN echo $X\n", a="1")
    first = hostctl("build", "-t", "again:1", str(folder))
    os.utime(folder / "a", (1, 1))
    second = hostctl("build", "-t", "again:1", str(folder))
    assert len(steps(first)) == 3
    assert steps(second) == []
    assert first.stdout == second.stdout


def test_only_what_follows_a_change_is_done_again(hostctl, context) -> None:
    text = "FROM BASE\nRUN echo 1 > /one\nCOPY a /a\nRUN echo 2 > /two\nLABEL v=1\n"
    hostctl("build", "-t", "change:1", str(context(text, a="1")))
    done = hostctl("build", "-t", "change:1", str(context(text, a="2")))
    assert steps(done) == ["COPY a /a", "RUN echo 2 > /two"]
    done = hostctl("build", "-t", "change:1", str(context(text.replace("v=1", "v=2"), a="2")))
    assert steps(done) == []
    assert image(hostctl, "change:1")["config"]["Labels"] == {"v": "2"}


def test_only_changed_files_are_sent_again(hostctl, context) -> None:
    folder = context("FROM BASE\nCOPY . /all\n", a="sent once", b="b1")
    hostctl("build", "-t", "sent:1", str(folder))
    blobs = Path(hostctl.paths.data, "build", "blobs")
    before = {path.name: path.stat().st_ino for path in blobs.iterdir()}
    context("FROM BASE\nCOPY . /all\n", a="sent once", b="b2")
    hostctl("build", "-t", "sent:1", str(folder))
    after = {path.name: path.stat().st_ino for path in blobs.iterdir()}
    new = [(blobs / name).read_text() for name in after.keys() - before.keys()]
    assert before.items() <= after.items()
    assert [text for text in new if not text.startswith("[[")] == ["b2"]


def test_a_wildcard_may_match_nothing_and_a_name_may_not(hostctl, context) -> None:
    text = (
        "FROM BASE\nCOPY a lock* /app/\nCOPY none* /x/\nADD no[n]e /y/\n"
        "COPY --from=BASE /etc/none* /z/\nCOPY --parents none*/f /p/\nCOPY none* /q\n"
        "RUN test -f /app/a && rmdir /x /y /z /p && test ! -e /q\n"
    )
    hostctl("build", "-t", "wild:1", str(context(text, a="1")))
    done = hostctl("build", "-t", "wild:1", str(context(text, a="1", lock="2")))
    assert steps(done)[0] == "COPY a lock* /app/"
    done = hostctl("build", str(context("FROM BASE\nCOPY a no.lock /app/\n", a="1")), code=2)
    assert "cannot copy no.lock: there is no such file" in done.stderr


def test_a_failure_shows_the_line_and_the_end_of_the_output(hostctl, context) -> None:
    folder = context("FROM BASE\nRUN echo fine\nRUN echo why; \\\n    exit 3\n")
    done = hostctl("build", "-t", "bad:1", str(folder), code=2)
    assert "Dockerfile:3" in done.stderr
    assert "ended with exit code 3" in done.stderr
    assert "| why" in done.stderr
    assert "    exit 3" in done.stderr
    assert hostctl.store.resolve("bad:1") is None
    folder = context("FROM BASE\nRUN echo fine\nRUN echo good\n")
    assert steps(hostctl("build", "-t", "bad:1", str(folder))) == ["RUN echo good"]


def test_a_missing_source_says_where(hostctl, context) -> None:
    done = hostctl("build", str(context("FROM BASE\n\nCOPY nothing /x\n")), code=2)
    assert "cannot copy nothing" in done.stderr
    assert "Dockerfile:3" in done.stderr


def test_secrets_leave_no_trace(hostctl, context, tmp_path) -> None:
    value = "hunter2-very-secret-value"
    secret = tmp_path / "secret"
    secret.write_text(value)
    folder = context(
        "FROM BASE\n"
        "RUN --mount=type=secret,id=key test -s /run/secrets/key && cat /run/secrets/key | wc -c > /size\n"
        'RUN --mount=type=secret,id=word,env=WORD test -n "$WORD"\n'
        "RUN --mount=type=secret,id=no test ! -e /run/secrets\n"
    )
    words = ["--secret", f"id=key,src={secret}", "--secret", "id=word,env=A_WORD"]
    hostctl("build", "-t", "secret:1", *words, str(folder), env={"A_WORD": value})
    tree = tree_of(hostctl.store, "secret:1")
    assert "size" in tree
    manifest = hostctl.store.manifest(hostctl.store.image("secret:1"))
    assert len(manifest["layers"]) == 4
    found = []
    for root in (hostctl.paths.data, hostctl.paths.run):
        for parent, names, files in os.walk(root):
            assert "secrets" not in names or "agents" in parent or "store/layers" not in parent
            found += [
                name
                for name in files
                if os.path.isfile(os.path.join(parent, name))
                and value.encode() in Path(parent, name).read_bytes()
            ]
    assert found == []


def test_a_required_secret_that_is_missing_is_an_error(hostctl, context) -> None:
    folder = context("FROM BASE\nRUN --mount=type=secret,id=key,required=true true\n")
    assert "the secret key was not given" in hostctl("build", str(folder), code=2).stderr


def test_mounts(hostctl, context) -> None:
    text = (
        "FROM BASE AS other\nRUN echo from-stage > /o\n"
        "FROM BASE\n"
        "RUN --mount=type=cache,target=/cache echo x >> /cache/log && wc -l < /cache/log > /count\n"
        "RUN --mount=type=bind,target=/ctx cat /ctx/a > /a && ! (echo > /ctx/a)\n"
        "RUN --mount=type=bind,from=other,source=/o,target=/o,rw cat /o > /seen && echo gone > /o\n"
        "RUN --mount=type=tmpfs,target=/tmpfs echo > /tmpfs/x\n"
        "RUN --network=none test ! -e /sys/class/net/eth0\n"
        "RUN cat /count /a /seen && test ! -e /cache && test ! -e /ctx && test ! -e /tmpfs && test ! -e /o\n"
    )
    folder = context(text.replace("wc -l <", "wc -l <"), a="from-context\n")
    done = hostctl("build", "-t", "mounts:1", str(folder))
    assert "| from-context" in done.stderr
    assert "| from-stage" in done.stderr
    done = hostctl("build", "-t", "mounts:1", "--no-cache", str(folder))
    assert "| 2" in done.stderr


def test_heredocs(hostctl, context) -> None:
    folder = context(
        "FROM BASE\nRUN <<EOF\necho one > /1\necho $HOME > /2\nEOF\n"
        "RUN <<EOF\n#!/bin/sh -e\necho $0 > /3\nEOF\n"
        "COPY <<one <<two /d/\nfirst\none\nsecond\ntwo\n"
        "RUN cat /1 /2 /d/one /d/two\n"
    )
    done = hostctl("build", "-t", "here:1", str(folder))
    shown = [line.split("| ")[1] for line in done.stderr.splitlines() if "| " in line]
    assert shown[-4:] == ["one", "/root", "first", "second"]


def test_a_fixed_time_gives_the_same_bits(hostctl, context, tmp_path) -> None:
    folder = context("FROM BASE\nCOPY a /a\nRUN mkdir /x && echo 1 > /x/y\nWORKDIR /w\n", a="a")
    ids = set()
    for _ in range(2):
        ids.add(
            hostctl(
                "build",
                "-t",
                "fixed:1",
                "--no-cache",
                str(folder),
                env={"SOURCE_DATE_EPOCH": "1000000000"},
            ).stdout
        )
    assert len(ids) == 1
    assert image(hostctl, "fixed:1")["created"] == "2001-09-09T01:46:40Z"


def test_history_and_ids_are_as_dockers(hostctl, context, tmp_path) -> None:
    folder = context('FROM BASE\nARG A=1\nENV B=2\nRUN echo $A\nCMD ["sh"]\n')
    out = tmp_path / "iid"
    done = hostctl("build", "-t", "hist:1", "--iidfile", str(out), "--label", "x=y", str(folder))
    assert out.read_text() == done.stdout.strip()
    config = image(hostctl, "hist:1")
    own = config["history"][-4:]
    assert [item["created_by"] for item in own] == [
        "ARG A=1", "ENV B=2", "RUN |1 A=1 /bin/sh -c echo $A", 'CMD ["sh"]',
    ]  # fmt: skip
    layers = [item for item in config["history"] if not item.get("empty_layer")]
    assert len(layers) == len(config["rootfs"]["diff_ids"])
    assert config["config"]["Labels"] == {"x": "y"}


def test_parents_exclude_and_link(hostctl, context) -> None:
    folder = context(
        "FROM BASE\nCOPY --parents ./x/a ./y/b /p/\nCOPY --parents ./x/./deep/c /q/\n"
        "COPY --exclude=*.log dir /e/\nCOPY --link dir/keep /l/\nRUN find /p /q /e /l -type f | sort\n"
        .replace("BASE", "SHELL:1").replace("SHELL:1", "SHELL:1"),
        x__a="a", y__b="b", x__deep__c="c", dir__keep="k", dir__no_log="n",
    )  # fmt: skip
    (folder / "dir" / "no.log").write_text("n")
    done = hostctl("build", "-t", "parents:1", str(folder))
    shown = [line.split("| ")[1] for line in done.stderr.splitlines() if "| /" in line]
    assert shown == ["/e/keep", "/e/no_log", "/l/keep", "/p/x/a", "/p/y/b", "/q/deep/c"]


def test_a_killed_build_leaves_nothing_and_the_next_one_ends_well(hostctl, context) -> None:
    folder = context("FROM BASE\nRUN echo 1 > /one\nRUN echo started; sleep 4242\n")
    process = hostctl.start("-t", "killed:1", str(folder))
    for line in process.stderr:
        if "| started" in line:
            break
    agents = [pid for pid in _processes(hostctl.paths.data) if "worker" not in pid[1]]
    assert agents
    for pid, _ in _processes(hostctl.paths.data):
        os.kill(pid, signal.SIGKILL)
    process.wait(60)
    process.stderr.close()
    _until(lambda: not _sleeping())
    folder = context("FROM BASE\nRUN echo 1 > /one\nRUN echo ended\n")
    hostctl("build", "-t", "killed:1", str(folder))
    assert os.listdir(hostctl.store.root + "/tmp") == []
    assert not [path for path in _mounts() if hostctl.paths.data in path]


def _processes(data: str) -> list[tuple[int, str]]:
    """Processes of the agent whose data folder this is."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if data in words and "start.py" in words:
            found.append((int(entry.name), words))
    return found


def _sleeping() -> bool:
    return any(
        path.read_bytes() == b"sleep\x004242\x00" for path in Path("/proc").glob("[0-9]*/cmdline")
    )


def _until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def test_check_finds_what_is_wrong(hostctl, context) -> None:
    folder = context("FROM BASE\nMAINTAINER me\n")
    assert "MaintainerDeprecated" in hostctl("build", "--check", str(folder), code=1).stdout
    assert "no warnings" in hostctl("build", "--check", str(context("FROM BASE\n"))).stdout


def test_the_image_is_a_valid_layout(hostctl, context) -> None:
    hostctl("build", "-t", "layout:1", str(context("FROM BASE\nRUN echo > /x\n")))
    manifest = hostctl.store.manifest(hostctl.store.image("layout:1"))
    for blob in (manifest["config"], *manifest["layers"]):
        assert os.stat(hostctl.store.blob_path(blob["digest"])).st_size == blob["size"]
