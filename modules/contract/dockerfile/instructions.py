"""Runs in both worlds: the data types of a parsed Dockerfile: stages, instructions, flags, heredocs.

Values are as written, quotes and variables included; `expand_instruction` gives the same type with its variables
replaced. Names follow the Dockerfile reference. Paths are of the image, with `/`. It is one file because whoever
works with instructions needs to know all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Union


@dataclass(frozen=True)
class Lines:
    """Where something stands: first and last line of the file, counted from 1, both included."""

    first: int
    last: int


@dataclass(frozen=True)
class Heredoc:
    """A document inside the Dockerfile (`<<EOF`).

    Attributes:
        name: the word that ends it; of COPY and ADD the file's name, too.
        content: its lines, each with its newline; of `<<-` without leading tabs.
        expand: variables are replaced (no part of the word was quoted).
        strip_tabs: it was written with `<<-`.
        raw: the lines as written, leading tabs included.
    """

    name: str
    content: str
    expand: bool = True
    strip_tabs: bool = False
    raw: str = ""


@dataclass(frozen=True)
class Command:
    """What RUN, CMD, ENTRYPOINT and HEALTHCHECK CMD run.

    Attributes:
        words: of the exec form its arguments; of the shell form one text, for the shell as it is.
        shell: it is the shell form: the image's SHELL goes before it.
        heredocs: documents that follow the line (RUN only, shell form only).
    """

    words: tuple[str, ...]
    shell: bool
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def is_document(self) -> bool:
        """The line is one heredoc and nothing else: its content is the script."""
        from .heredocs import parse_heredoc

        if not (self.shell and self.heredocs and self.words):
            return False
        return parse_heredoc(self.words[0]) is not None

    @property
    def shebang(self) -> Heredoc | None:
        """The document that is to be written to a file (0755) and executed itself: it starts with `#!`."""
        if self.is_document and self.heredocs[0].raw.startswith("#!"):
            return self.heredocs[0]
        return None

    @property
    def script(self) -> str:
        """Of the shell form: the one argument that the shell gets after `-c`."""
        if self.is_document:
            return self.heredocs[0].content
        line = self.words[0] if self.words else ""
        return line + "".join(f"\n{one.raw}{one.name}" for one in self.heredocs)


@dataclass(frozen=True)
class Pair:
    """A name and a value of ENV, LABEL or ARG.

    Attributes:
        value: None for an ARG without a default.
        legacy: it was written `NAME value`, without `=`.
    """

    name: str
    value: str | None
    legacy: bool = False


@dataclass(frozen=True)
class Mount:
    """One `--mount` of RUN. What is left out has BuildKit's default.

    Attributes:
        type: bind, cache, tmpfs, secret or ssh.
        target: path in the container; empty: that of a secret or an agent follows from `id`.
        source: path in the stage, image or context that is mounted.
        from_: stage, image or named context; empty: the build context (bind), nothing (cache).
        id: of a cache, a secret or an agent.
        read_only: true for bind unless `rw` was written.
        sharing: of a cache: shared, private or locked.
        size: of a tmpfs, bytes; 0: no limit.
        required: a secret or an agent that is not given is an error.
        mode, uid, gid: of a secret, an agent, or a new cache folder; None: 0400, 0600 and 0755; 0 and 0.
        env: the variable that has the secret instead of a file, or beside it if there is a target.
    """

    type: str = "bind"
    target: str = ""
    source: str = ""
    from_: str = ""
    id: str = ""
    read_only: bool = False
    sharing: str = ""
    size: int = 0
    required: bool = False
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    env: str = ""


@dataclass(frozen=True)
class Instruction:
    """What all instructions have.

    Attributes:
        lines: of the file, heredocs included.
        text: the instruction in one line: continuations joined, comments gone, no heredocs.
        keyword: as written, whatever its case.
        comments: the comment lines right before it, without `#`.
        flags: as written, each with its `--`.
    """

    NAME: ClassVar[str] = ""

    lines: Lines
    text: str
    keyword: str
    comments: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class From(Instruction):
    """FROM [--platform=P] BASE [AS NAME]. `name` is in lower case, as BuildKit compares it."""

    NAME: ClassVar[str] = "FROM"
    base: str = ""
    name: str = ""
    platform: str = ""
    written_name: str = ""
    as_keyword: str = ""


@dataclass(frozen=True)
class Arg(Instruction):
    """ARG NAME[=DEFAULT] ..."""

    NAME: ClassVar[str] = "ARG"
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True)
class Env(Instruction):
    """ENV NAME=VALUE ..., or NAME VALUE."""

    NAME: ClassVar[str] = "ENV"
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True)
class Label(Instruction):
    """LABEL NAME=VALUE ..., or NAME VALUE."""

    NAME: ClassVar[str] = "LABEL"
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True)
class Run(Instruction):
    """RUN [--mount=...] [--network=N] [--security=S] [--device=D] COMMAND.

    Attributes:
        mounts: parsed; with variables replaced after `expand_instruction` only.
        network: default, none or host; empty: default.
        security: sandbox or insecure; empty: sandbox.
        devices: CDI names.
    """

    NAME: ClassVar[str] = "RUN"
    command: Command = field(default=Command((), True))
    mounts: tuple[Mount, ...] = ()
    network: str = ""
    security: str = ""
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Copy(Instruction):
    """COPY [flags] SOURCE ... DESTINATION.

    Attributes:
        sources: paths or patterns, relative to the context (or what `from_` names).
        documents: heredocs that are files of their own.
        destination: as written; a trailing `/` makes it a folder.
        chown: `user[:group]`, names or numbers; empty: 0:0.
        chmod: octal digits or symbolic; empty: the sources' modes.
        from_: stage (name or index), named context or image; empty: the context.
        exclude: patterns with the rules of .dockerignore.
        link: a layer that does not depend on what is below.
        parents: keep the sources' parent folders (after `/./`, if there is one).
    """

    NAME: ClassVar[str] = "COPY"
    sources: tuple[str, ...] = ()
    documents: tuple[Heredoc, ...] = ()
    destination: str = ""
    chown: str = ""
    chmod: str = ""
    from_: str = ""
    exclude: tuple[str, ...] = ()
    link: bool = False
    parents: bool = False


@dataclass(frozen=True)
class Add(Instruction):
    """ADD [flags] SOURCE ... DESTINATION: as COPY, and URLs, git repositories and archives.

    Attributes:
        checksum: `sha256:...` of a URL; of a git repository its commit.
        keep_git_dir: the folder `.git` stays.
        unpack: None: local archives are unpacked, downloaded ones are not; else as it says.
    """

    NAME: ClassVar[str] = "ADD"
    sources: tuple[str, ...] = ()
    documents: tuple[Heredoc, ...] = ()
    destination: str = ""
    chown: str = ""
    chmod: str = ""
    checksum: str = ""
    exclude: tuple[str, ...] = ()
    link: bool = False
    parents: bool = False
    keep_git_dir: bool = False
    unpack: bool | None = None


@dataclass(frozen=True)
class Workdir(Instruction):
    """WORKDIR PATH."""

    NAME: ClassVar[str] = "WORKDIR"
    path: str = ""


@dataclass(frozen=True)
class User(Instruction):
    """USER user[:group]."""

    NAME: ClassVar[str] = "USER"
    user: str = ""


@dataclass(frozen=True)
class Expose(Instruction):
    """EXPOSE PORT[-PORT][/PROTOCOL] ... `exposed_ports` reads them after expansion."""

    NAME: ClassVar[str] = "EXPOSE"
    ports: tuple[str, ...] = ()


@dataclass(frozen=True)
class Volume(Instruction):
    """VOLUME PATH ..., or a JSON list."""

    NAME: ClassVar[str] = "VOLUME"
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entrypoint(Instruction):
    """ENTRYPOINT. No words: it is reset."""

    NAME: ClassVar[str] = "ENTRYPOINT"
    command: Command = field(default=Command((), True))


@dataclass(frozen=True)
class Cmd(Instruction):
    """CMD. No words: it is reset."""

    NAME: ClassVar[str] = "CMD"
    command: Command = field(default=Command((), True))


@dataclass(frozen=True)
class Shell(Instruction):
    """SHELL [JSON]."""

    NAME: ClassVar[str] = "SHELL"
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stopsignal(Instruction):
    """STOPSIGNAL SIGNAL: a name or a number."""

    NAME: ClassVar[str] = "STOPSIGNAL"
    signal: str = ""


@dataclass(frozen=True)
class Healthcheck(Instruction):
    """HEALTHCHECK NONE, or [flags] CMD COMMAND.

    Attributes:
        command: None for NONE.
        interval, timeout, start_period, start_interval: seconds; 0: the default.
        retries: 0: the default.
    """

    NAME: ClassVar[str] = "HEALTHCHECK"
    command: Command | None = None
    interval: float = 0.0
    timeout: float = 0.0
    start_period: float = 0.0
    start_interval: float = 0.0
    retries: int = 0

    @property
    def test(self) -> tuple[str, ...]:
        """The image config's `Test`: `("NONE",)`, `("CMD", ...)` or `("CMD-SHELL", LINE)`."""
        if self.command is None:
            return ("NONE",)
        return ("CMD-SHELL" if self.command.shell else "CMD", *self.command.words)


@dataclass(frozen=True)
class Onbuild(Instruction):
    """ONBUILD INSTRUCTION.

    Attributes:
        trigger: its text as the image config's `OnBuild` has it, heredocs included; `parse_trigger` reads it.
        instruction: the same, parsed.
    """

    NAME: ClassVar[str] = "ONBUILD"
    trigger: str = ""
    instruction: Instruction | None = None


@dataclass(frozen=True)
class Maintainer(Instruction):
    """MAINTAINER NAME: the image's author."""

    NAME: ClassVar[str] = "MAINTAINER"
    name: str = ""


AnyCopy = Union[Copy, Add]

INSTRUCTIONS: dict[str, type[Instruction]] = {
    one.NAME: one
    for one in (
        Add, Arg, Cmd, Copy, Entrypoint, Env, Expose, From, Healthcheck, Label, Maintainer,
        Onbuild, Run, Shell, Stopsignal, User, Volume, Workdir,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """One FROM and what follows it.

    Attributes:
        index: counted from 0.
        start: the FROM; `start.name` is the stage's name or empty.
        instructions: without the FROM.
    """

    index: int
    start: From
    instructions: tuple[Instruction, ...] = ()

    @property
    def name(self) -> str:
        return self.start.name

    @property
    def title(self) -> str:
        """What people see: the name, or `stage-N`."""
        return self.start.name or f"stage-{self.index}"


@dataclass(frozen=True)
class Directives:
    """The parser directives at the top of the file.

    Attributes:
        escape: a backslash or a backtick.
        syntax: an image of a front end, which hostctl does not need: empty if there is none.
        skip: lint rules of `check=skip=...`; `all` is one of them.
        error: `check=error=true`: findings of the lint are errors.
        experimental: rules of `check=experimental=...`.
    """

    escape: str = "\\"
    syntax: str = ""
    skip: tuple[str, ...] = ()
    error: bool = False
    experimental: tuple[str, ...] = ()


@dataclass(frozen=True)
class Warning:
    """What the parser let pass. `rule` is a name of the lint."""

    rule: str
    message: str
    lines: Lines


@dataclass(frozen=True)
class Dockerfile:
    """A whole file.

    Attributes:
        arguments: the ARGs before the first FROM.
        stages: at least one.
        warnings: of the parser, part of the lint.
        source: the file's lines without their ends, for messages.
        file: its name, for messages.
    """

    arguments: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    directives: Directives = field(default=Directives())
    warnings: tuple[Warning, ...] = ()
    source: tuple[str, ...] = ()
    file: str = "Dockerfile"
