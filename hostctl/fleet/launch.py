"""Runs on the controller: starts the agent on a host in one round trip, and uploads it where it is missing.

Two scripts run there, both through a plain `sh -c`: `_START` execs the agent if it is unpacked and owned by
the user it runs as, else says in three lines what is missing; `_UNPACK` (Python) takes the archive from
stdin, verifies, unpacks, compiles and renames it into place, and becomes the agent. Of the older ones it keeps
two, those that a process runs from, and the one that the host's init starts (`DATA/boot`).
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass

from hostctl_host.contract.errors import HostctlError

from . import become
from .bundle import Bundle
from .local import LocalConnection
from .stream import Connection, Reader, Stream
from .target import Target

MINIMUM = "3.9"
NOISE_LIMIT = 64 << 10
UPLOAD_SILENCE = 120.0

_PYTHONS = "python3 /usr/libexec/platform-python " + " ".join(
    f"python3.{minor}" for minor in range(15, 8, -1)
)

# Arguments: digest, interpreter or "", data folder or "", run folder or "", then the agent's own.
_START = r"""
g=$1 p=$2 d=$3 r=$4; shift 4; umask 077
if [ "$(id -u)" = 0 ]; then : "${d:=/var/lib/hostctl}" "${r:=/run/hostctl}"
else : "${d:=${XDG_CACHE_HOME:-$HOME/.cache}/hostctl}" "${r:=$d/run}"; fi
a=$d/agents/$g
if [ -O "$a/start.py" ] && [ -O "$a" ] && [ -O "$d/agents" ]; then
q=$p; [ -n "$q" ] || read -r q < "$a/interpreter"
if command -v "$q" >/dev/null 2>&1; then exec "$q" -I -S "$a/start.py" "$@" --data-dir "$d" --run-dir "$r"; fi
fi
v=
c="import sys; print('%d.%d.%d' % sys.version_info[:3] + ' ok' * (sys.version_info[:2] >= (3, 9)))"
for q in ${p:-PYTHONS}; do
command -v "$q" >/dev/null 2>&1 || continue
o=$("$q" -c "$c" 2>/dev/null) || continue
case $o in
*ok) echo "hostctl-start MISSING"; echo "$q"; echo "$d"; echo "$r"; exit 0;;
?*) v=$o;;
esac
done
if [ -n "$v" ]; then echo "hostctl-start OLDPYTHON"; echo "$v"; else echo "hostctl-start NOPYTHON"; fi
""".strip().replace("PYTHONS", _PYTHONS)

# Arguments of the shell: interpreter, then those of the Python script. The echo shows that sudo let it in.
_UPLOAD = 'echo hostctl-ready; umask 077; p=$1; shift; exec "$p" -I -S -c "$@"'

# The script comes through stdin, in front of the archive: in argv it would fill the logs of sudo.
_READ_SCRIPT = 'import sys; f = open(0, "rb"); exec(f.read(int(sys.argv.pop(1))))'

# Arguments: agents folder, digest, size of the archive, interpreter, then the agent's own. `f` is stdin.
_UNPACK = r"""
import fcntl, hashlib, io, os, py_compile, shutil, sys, tarfile, zlib
KEPT = 2
agents, digest, size, python = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
temp = os.path.join(agents, ".new-" + digest)
final = os.path.join(agents, digest)

def say(*lines):
    os.write(1, ("hostctl-upload " + chr(10).join(map(str, lines)) + chr(10)).encode())

def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)

def unpack(tar):
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive:
            name = os.path.normpath(member.name)
            if not member.isfile() or name.startswith(("/", "..")):
                raise ValueError("a member that is no plain file: " + member.name)
            path = os.path.join(temp, name)
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            with open(path, "wb") as out:
                out.write(archive.extractfile(member).read())
            if name.endswith(".py"):
                try:
                    py_compile.compile(path, dfile=os.path.join(final, name), doraise=True,
                                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
                except py_compile.PyCompileError:
                    pass
    with open(os.path.join(temp, "interpreter"), "w") as out:
        out.write((sys.executable or python) + chr(10))
    for folder, _, names in os.walk(temp):
        for name in names:
            sync(os.path.join(folder, name))
        sync(folder)

def prune():
    used = b""
    for path in ["/proc/" + pid + "/cmdline" for pid in os.listdir("/proc") if pid.isdigit()] + [
        os.path.join(os.path.dirname(agents), "boot")
    ]:
        try:
            with open(path, "rb") as stream:
                used += stream.read()
        except OSError:
            continue
    others = [os.path.join(agents, name) for name in os.listdir(agents) if name != digest]
    others.sort(key=lambda path: os.lstat(path).st_mtime, reverse=True)
    for path in others[KEPT:]:
        if os.path.basename(path).encode() not in used:
            gone = os.path.join(agents, ".new-" + os.path.basename(path))
            try:
                os.rename(path, gone)
            except OSError:
                continue
            shutil.rmtree(gone, ignore_errors=True)

def place(data):
    os.makedirs(agents, 0o700, exist_ok=True)
    if os.lstat(agents).st_uid != os.geteuid():
        raise PermissionError(1, "the folder belongs to another user", agents)
    lock = os.open(agents, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        for name in os.listdir(agents):
            if name.startswith(".new-"):
                shutil.rmtree(os.path.join(agents, name))
        if os.path.exists(os.path.join(final, "start.py")) and os.lstat(final).st_uid == os.geteuid():
            return
        tar = zlib.decompress(data)
        if hashlib.sha256(tar).hexdigest() != digest:
            raise ValueError("the archive is damaged")
        try:
            os.mkdir(temp, 0o700)
            unpack(tar)
            shutil.rmtree(final, ignore_errors=True)
            os.rename(temp, final)
            sync(agents)
            prune()
        except BaseException:
            shutil.rmtree(temp, ignore_errors=True)
            raise
    finally:
        os.close(lock)

try:
    data = f.read(size)
    if len(data) < size:
        sys.exit(1)
    place(data)
except OSError as error:
    say("OSERROR", error.errno or 0, error.filename or agents, error.strerror)
    sys.exit(1)
except Exception as error:
    say("ERROR", repr(error))
    sys.exit(1)
python = sys.executable or python
os.execv(python, [python, "-I", "-S", os.path.join(final, "start.py")] + sys.argv[5:])
""".strip()


class TooEarly(HostctlError):
    """What a session needs has to wait until the playbook is known to be right."""


@dataclass(frozen=True)
class Places:
    """Where hostctl lives on the host, and the interpreter found there."""

    python: str
    data: str
    run: str


def start(
    connection: Connection,
    target: Target,
    bundle: Bundle,
    agent_args: tuple[str, ...],
    timeout: float,
    password: str,
    uploads: bool = True,
) -> tuple[Stream, Reader]:
    """Start the agent, uploading it first where the host lacks it.

    Args:
        agent_args: MODE and its options, without the folders.
        timeout: longest silence.
        password: for sudo.
        uploads: whether a host that lacks the agent gets it.
    Returns:
        The running agent, and a reader that stands at its first frame.
    Raises:
        HostctlError: no or too old Python, sudo, disk full, read-only folder.
        TooEarly: the host lacks the agent, and is not to be written to yet.
    """
    folders = (target.data_dir, target.run_dir)
    stream = None
    if isinstance(connection, LocalConnection):
        stream = connection.agent(target, bundle.digest, agent_args)
    if stream is None:
        stream = become.run(
            connection, target, _START, (bundle.digest, target.python, *folders, *agent_args)
        )
    reader, answer = _begin(stream, target, timeout, password)
    if answer is None:
        return stream, reader
    stream.exit_code(2)  # a server that allows one session at a time counts this one until then
    stream.close()
    places = _places(answer, target)
    if not uploads:
        raise TooEarly(f"cannot start the agent on {target.name} yet: it is not there")
    data = bundle.data
    stream = become.run(
        connection,
        target,
        _UPLOAD,
        (
            *(places.python, _READ_SCRIPT, str(len(_UNPACK))),
            *(os.path.join(places.data, "agents"), bundle.digest, str(len(data))),
            *(places.python, *agent_args),
            *("--data-dir", places.data, "--run-dir", places.run),
        ),
    )
    reader, answer = _begin(stream, target, UPLOAD_SILENCE, password, _UNPACK.encode() + data)
    if answer is not None:
        stream.close()
        raise _upload_failed(answer, target, places)
    reader.timeout = timeout
    return stream, reader


def _begin(
    stream: Stream, target: Target, timeout: float, password: str, data: bytes = b""
) -> tuple[Reader, list[str] | None]:
    """Get past sudo and whatever the login shell prints; None if the agent runs, else its refusal."""
    if isinstance(stream, become.SudoStream):
        stream.start(timeout, password)
    if data:
        try:
            stream.write(data)
        except ConnectionError:
            pass  # it has ended early; what it said is read below
    reader = Reader(stream, timeout)
    try:
        seen = reader.peek(_decided)
        found = _REPORT.search(seen)
        if found:
            lines = (
                reader.peek(lambda _: False)[found.start() :].decode(errors="replace").split("\n")
            )
            return reader, [*lines[0].split(" ")[1:], *lines[1:]]
        if b"\0" in seen:
            reader.skip(seen.index(b"\0"))
            return reader, None
        if not seen and isinstance(stream, become.SudoStream):
            stream.explain()
    except BaseException:
        stream.close()
        raise
    noise = (seen + b"\n" + stream.errors()).decode(errors="replace").strip()
    stream.close()
    raise HostctlError(
        f"cannot start the agent on {target.name}: {_last_line(noise) or 'the shell ended at once'}",
        where=target.name,
        hint=f"try: ssh {target.host} sh -c 'true' (it must print nothing and end with 0)",
        ref="agent-start",
    )


_REPORT = re.compile(rb"^hostctl-(start|upload) ", re.MULTILINE)


def _decided(seen: bytes) -> bool:
    """A frame begins with a zero byte, which no login banner has."""
    return b"\0" in seen or bool(_REPORT.search(seen)) or len(seen) > NOISE_LIMIT


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def _places(answer: list[str], target: Target) -> Places:
    match answer:
        case ["MISSING", python, data, run, *_]:
            return Places(python, data, run)
        case ["OLDPYTHON", version, *_]:
            which = f"{target.python} is Python" if target.python else "its newest Python is"
            raise HostctlError(
                f"cannot manage {target.name}: {which} {version}, hostctl needs {MINIMUM} or newer",
                where=target.name,
                hint=f"install Python {MINIMUM} or newer there and set ansible_python_interpreter to it",
                ref="python-too-old",
            )
        case ["NOPYTHON", *_] if target.python:
            raise HostctlError(
                f"cannot manage {target.name}: there is no working {target.python}",
                where=target.name,
                hint="check ansible_python_interpreter, or remove it",
                ref="python-missing",
            )
        case ["NOPYTHON", *_]:
            raise HostctlError(
                f"cannot manage {target.name}: there is no python3",
                where=target.name,
                hint="install it there: apt install python3-minimal (dnf install python3, apk add python3)",
                ref="python-missing",
            )
    raise HostctlError(
        f"cannot start the agent on {target.name}: {' '.join(answer)}", ref="agent-start"
    )


def _upload_failed(answer: list[str], target: Target, places: Places) -> HostctlError:
    match answer:
        case ["OSERROR", code, path, message, *_] if code.isdecimal():
            hints = {
                errno.ENOSPC: f"free some space (df -h {places.data})",
                errno.EDQUOT: f"the user's quota is used up ({places.data})",
                errno.EROFS: "set hostctl_data_dir to a folder that can be written",
                errno.EACCES: "set hostctl_data_dir to a folder that can be written, or ansible_become",
                errno.EPERM: "remove the folder, or set hostctl_data_dir to another one",
            }
            words = {errno.ENOSPC: "disk full", errno.EROFS: "read-only file system"}
            return HostctlError(
                f"cannot upload the agent to {target.name}: {words.get(int(code), message)}: {path}",
                where=target.name,
                hint=hints.get(int(code), "set hostctl_data_dir to another folder"),
                ref="disk-full" if int(code) == errno.ENOSPC else "agent-upload",
            )
    return HostctlError(
        f"cannot upload the agent to {target.name}: {' '.join(answer[1:]) or answer[0]}",
        where=target.name,
        ref="agent-upload",
    )
