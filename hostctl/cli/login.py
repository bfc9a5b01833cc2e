"""Runs on the controller: `hostctl login`: keeps the login of a registry where Docker would."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from hostctl_host.contract.errors import HostctlError

from .options import HostOptions, host_options, json_option
from .registries import insecure_option


@click.command("login")
@click.argument("registry", default="docker.io")
@click.option("-u", "--username", default="", metavar="NAME", help="Asked for where it is missing.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")
@click.option("-p", "--password", hidden=True)
@click.option("--no-check", is_flag=True, help="Do not ask the registry whether it is right.")
@insecure_option
@json_option
@host_options()
def command(
    registry: str,
    username: str,
    password_stdin: bool,
    password: str | None,
    no_check: bool,
    insecure: bool,
    as_json: bool,
    hosts: HostOptions,
) -> int:
    """Log in to a registry (default: docker.io).

    The registry is asked from this machine, or with -l from the first of these hosts. The login goes
    to ~/.docker/config.json, or to the helper that stands there as credsStore or credHelpers. The
    hosts get it when they pull or push, in memory.
    """
    if password is not None:
        raise HostctlError(
            "cannot take a password as an option: every user of this machine can read it there",
            hint="use --password-stdin, or type it when asked",
            ref="password-option",
        )
    from hostctl.credentials import Keyring

    host = registry_host(registry)
    login = _asked(host, username, password_stdin)
    if not no_check:
        _check(host, login, insecure, hosts)
    place = Keyring().store(host, login)
    if as_json:
        click.echo(json.dumps({"version": 1, "registry": host, "stored": place}, indent=2))
        return 0
    open_text = "" if place.startswith("docker-credential-") else ", which is not encrypted"
    sys.stderr.write(f"Logged in to {host}; kept in {place}{open_text}.\n")
    return 0


def registry_host(text: str) -> str:
    """A registry as people write it (`https://host/v1/`, too), as it begins a reference.

    Raises:
        HostctlError: `image-reference`.
    """
    from hostctl_host.contract.reference import parse
    from hostctl_host.contract.registries import DOCKER_HUB

    host = text.partition("://")[2].partition("/")[0] if "://" in text else text.rstrip("/")
    if host in DOCKER_HUB:
        return "docker.io"
    parsed = parse(f"{host}/x")
    if parsed.host != host:
        # No dot, no port: Docker would take it for a part of docker.io, and so would every reference.
        raise HostctlError(
            f"cannot use {text!r} as a registry: it would mean {parsed.name}",
            hint=f"write it with a port or a domain: {host}:5000",
            ref="image-reference",
        )
    return host


def _asked(host: str, username: str, from_stdin: bool) -> dict[str, str]:
    if from_stdin:
        if not username:
            raise HostctlError(
                "cannot log in: --password-stdin needs the user",
                hint="give -u NAME",
                ref="no-username",
            )
        password = sys.stdin.read().rstrip("\r\n")
    else:
        from hostctl.fleet.ask import Asker

        if not username:
            if not sys.stdin.isatty():
                raise HostctlError(
                    "cannot ask for the user: there is no terminal",
                    hint="give -u NAME --password-stdin",
                    ref="no-terminal",
                )
            username = click.prompt(f"User of {host}", err=True)
        password = Asker().secret(f"Password of {username} at {host}: ")
    if not password:
        raise HostctlError("cannot log in: the password is empty", ref="no-password")
    return {"username": username, "password": password}


def _check(host: str, login: dict[str, str], insecure: bool, hosts: HostOptions) -> None:
    """Have the registry asked. Raises HostctlError."""
    from hostctl.credentials import Logins
    from hostctl.fleet.fleet import Fleet
    from hostctl.fleet.session import Session, call
    from hostctl.fleet.target import Target

    from .hosts import connections, session_options

    variables: dict[str, dict[str, Any]] = {"localhost": {}}
    if hosts.limit:
        variables = connections(hosts)
    name, found = next(iter(variables.items()))
    # Its settings, not the login that is kept now.
    told = Logins().of(name, found).for_references([f"{host}/x"])
    args = {**told, "registry": host, "credentials": {host: login}, "insecure": insecure}
    fleet: Fleet[None] = Fleet(1)
    session: Session
    with fleet.session(Target.from_vars(name, found), "serve", session_options(hosts)) as session:
        for _ in call(session, "login", args):
            pass
