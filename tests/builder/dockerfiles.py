"""Runs on the test machine: Dockerfiles that together use every instruction, and the files of their contexts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One Dockerfile; `BASE` in it is the registry's address. `files`: path -> content; a `->` makes a link."""

    name: str
    dockerfile: str
    files: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    target: str = ""

    def write(self, folder: Path, registry: str) -> Path:
        """The context, with its Dockerfile."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content.startswith("->"):
                path.symlink_to(content[2:])
            else:
                path.write_text(content)
                path.chmod(0o755 if content.startswith("#!") else 0o644)
        text = self.dockerfile.replace("BASE", f"{registry}/base:1")
        (folder / "Dockerfile").write_text(text.lstrip("\n"))
        return folder


CASES = (
    Case(
        "run",
        'FROM BASE\nRUN echo hi > /hi && chmod 600 /hi\nRUN ["/bin/sh", "-c", "mkdir /d; rm /etc/issue"]\n',
    ),
    Case(
        "config",
        """
FROM BASE
MAINTAINER Ada <ada@example.com>
LABEL one=1 two="a b"
ENV A=1 B="$PATH:/x"
EXPOSE 80 53/udp 8000
VOLUME ["/etc", "/usr"]
USER 1000:1000
WORKDIR /srv
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s --timeout=2s --retries=2 CMD echo ok
SHELL ["/bin/sh", "-ec"]
ONBUILD RUN echo later
ENTRYPOINT ["echo"]
CMD ["a", "b"]
""",
    ),
    Case("shell-forms", "FROM BASE\nENTRYPOINT exec echo $HOME\nCMD echo hi\n"),
    Case(
        "copy-files",
        "FROM BASE\nCOPY a.txt b.txt /srv/\nCOPY a.txt /srv/c\nCOPY run.sh /usr/bin/\nCOPY a.txt bin\n",
        {"a.txt": "a\n", "b.txt": "b\n", "run.sh": "#!/bin/sh\n", "bin/x": "x"},
    ),
    Case(
        "copy-folders",
        "FROM BASE\nWORKDIR /app\nCOPY src .\nCOPY src/ new/\nCOPY src/sub /etc\nCOPY . /all/\n",
        {
            "src/a": "a",
            "src/sub/b": "b",
            "src/link": "->a",
            ".dockerignore": "*.log\n!keep.log\n",
            "x.log": "x",
            "keep.log": "k",
        },
    ),
    Case(
        "chown-chmod",
        "FROM BASE\nCOPY --chown=1000:2000 src /a\nCOPY --chown=www-data f /b/f\n"
        "COPY --chown=daemon:mail f /c/\nCOPY --chmod=640 f /d\nRUN chown 5:6 /d\n",
        {"src/x/y": "y", "f": "f"},
    ),
    Case(
        "wildcards",
        "FROM BASE\nCOPY *.txt /t/\nCOPY d?r/*.c /c/\nCOPY [ab].h /h/\n",
        {
            "a.txt": "1",
            "b.txt": "2",
            "dir/m.c": "m",
            "der/n.c": "n",
            "a.h": "a",
            "b.h": "b",
            "c.h": "c",
        },
    ),
    Case(
        "stages",
        """
FROM BASE AS unused
RUN false
FROM BASE AS build
RUN mkdir -p /out/bin && echo prog > /out/bin/prog && chmod 4755 /out/bin/prog && chown 7:8 /out/bin
RUN ln -s bin/prog /out/link && ln /out/bin/prog /out/bin/again
FROM BASE AS other
RUN echo other > /other
FROM BASE
COPY --from=build /out /opt
COPY --from=other /other /opt/bin/other
COPY --from=1 /out/bin/prog /usr/local/bin/
""",
    ),
    Case(
        "target",
        "FROM BASE AS one\nRUN echo 1 > /one\nFROM one AS two\nRUN echo 2 > /two\nFROM two\nRUN false\n",
        target="two",
    ),
    Case(
        "image-source",
        'FROM scratch\nCOPY --from=BASE /bin/dash /etc/passwd /x/\nCMD ["/x/dash"]\n',
    ),
    Case(
        "arguments",
        "ARG VERSION=1\nARG TAG=1\nFROM BASE\nARG VERSION\nARG NAME=none\nARG REST=${NAME:-x}-${VERSION}\n"
        "ENV SEEN=$NAME\nRUN echo $VERSION $NAME $REST > /seen\nLABEL name=$NAME\nWORKDIR /w/${NAME}\n",
        arguments={"NAME": "ada"},
    ),
    Case(
        "workdir",
        "FROM BASE\nWORKDIR /a\nWORKDIR b/c\nRUN pwd > here\nUSER 33\nWORKDIR /d\nRUN id -u > /tmp/id\nCOPY f e/\n",
        {"f": "f"},
    ),
    Case(
        "removal",
        "FROM BASE\nRUN mkdir /x && echo 1 > /x/1 && echo 2 > /x/2\nRUN rm /x/1 && rm -r /usr/share/base-files\n"
        "RUN rm -r /x && mkdir /x && echo 3 > /x/3\n",
    ),
    Case(
        "add",
        "FROM BASE\nADD a.txt /srv/\nADD dir /srv/dir\nADD a.tar.gz /un/\nADD a.tar /un2\n",
        {"a.txt": "a", "dir/f": "f"},
    ),
    Case(
        "onbuild-chain",
        "FROM BASE AS parent\nONBUILD COPY f /got\nONBUILD RUN echo later >> /got\nFROM parent\nRUN echo own >> /got\n",
        {"f": "f\n"},
    ),
    Case(
        "links",
        "FROM BASE\nRUN mkdir /real && ln -s /real /ln && ln -s ../real /usr/rel\n"
        "COPY f /ln/\nCOPY f /usr/rel/g\nCOPY d /ln\n",
        {"f": "f", "d/h": "h"},
    ),
    Case(
        "modes",
        "FROM BASE\nRUN umask 077; mkdir -p /m/n; echo > /m/n/f; chmod 1777 /m; "
        "mkfifo /m/p; touch /m/exec; chmod 6711 /m/exec\n",
    ),
    Case(
        "continued",
        "FROM BASE\nRUN echo one \\\n  # a comment\n  two > /f && \\\n  echo 'three # four' >> /f\n",
    ),
)
