"""Runs on the controller: what people type who come from Ansible, Docker, Compose or Terraform, and what it is here.

Looked at only where a command line has no meaning; a word that becomes a verb or an option is not asked for any more.
"""

from __future__ import annotations

import click

_APPLY = "hostctl apply PLAYBOOK"
_PLAN = "hostctl plan PLAYBOOK"
_DESTROY = "hostctl destroy PLAYBOOK"
_DECLARE = f"declare it under `containers:` of a playbook, then {_APPLY}"
_CHECKED = "hostctl plan PLAYBOOK checks all of it, and the hosts"

VERBS = {
    "up": f"{_APPLY}; containers run in the background, `hostctl logs -f` shows what they say",
    "down": f"{_DESTROY}; with --volumes their data too",
    "create": _DECLARE,
    "deploy": _APPLY,
    "playbook": _APPLY,
    "ansible-playbook": _APPLY,
    "run": f"{_APPLY}; for one container, {_DECLARE}. In a running one: hostctl exec NAME COMMAND",
    "check": _PLAN,
    "diff": _PLAN,
    "validate": _CHECKED,
    "config": _CHECKED,
    "lint": _CHECKED,
    "rm": f"take it out of the playbook, then hostctl apply --prune PLAYBOOK; or all: {_DESTROY}",
    "rollback": "apply the older playbook",
    "remove": f"take it out of the playbook, then hostctl apply --prune PLAYBOOK; or all: {_DESTROY}",
    "kill": "hostctl stop NAME, which kills after its grace period",
    "ls": "hostctl ps",
    "list": "hostctl ps for containers, hostctl inventory --list for hosts",
    "status": "hostctl ps",
    "top": "hostctl exec NAME ps",
    "inspect": "hostctl ps --all --json",
    "shell": "hostctl exec -it NAME sh",
    "ssh": "hostctl exec -it NAME sh for a container; for the host, ssh itself",
    "pull": f"declare it under `images:` of a playbook, then {_APPLY}",
    "build": f"declare it under `images:` of a playbook, then {_APPLY}",
    "compose": f"{_APPLY}; `containers:` of a playbook has Compose's keys",
    "docker": f"{_APPLY}; then hostctl ps, logs, exec, stop, start, restart",
    "container": "hostctl ps, logs, exec, stop, start, restart",
    "network": f"declare it under `networks:` of a playbook, then {_APPLY}",
    "volume": f"declare it under `volumes:` of a playbook, then {_APPLY}",
    "secret": f"declare it under `secrets:` of a playbook, then {_APPLY}",
    "init": "write a playbook: a list of plays with `hosts:` and `tasks:` or `containers:`",
    "ping": "hostctl inventory --list shows the hosts; hostctl ps reaches all of them",
    "cp": "the kind copy writes files of hosts, `volumes:` and `configs:` of containers show them inside",
}

_BECOME = "write `become: true` into the play, or `ansible_become: true` into the inventory"
_DETACHED = "leave it out: containers always run in the background"

OPTIONS = {
    "--check": _PLAN,
    "-C": _PLAN,
    "--dry-run": _PLAN,
    "--syntax-check": _CHECKED,
    "--list-hosts": "hostctl inventory --list",
    "--list-tasks": _PLAN,
    "--list-tags": "see the tags in the playbook; -t and --skip-tags choose among them",
    "--step": f"{_PLAN} says what comes before any of it is done",
    "--start-at-task": "-t TAGS runs a part; what is as declared already costs nothing",
    "--force-handlers": "handlers of a run that failed are owed to the next one",
    "--become": _BECOME,
    "-b": _BECOME,
    "--become-user": "write `become_user` into the play or the task",
    "-u": "write `ansible_user` into the inventory, or -e ansible_user=NAME",
    "--user": "write `ansible_user` into the inventory, or -e ansible_user=NAME",
    "--private-key": "write `ansible_ssh_private_key_file` into the inventory, or IdentityFile into ~/.ssh/config",
    "--key-file": "write `ansible_ssh_private_key_file` into the inventory, or IdentityFile into ~/.ssh/config",
    "--connection": "write `ansible_connection: local` or `ssh` into the inventory",
    "--auto-approve": "leave it out: apply asks nothing; destroy takes --yes",
    "--target": "-t TAGS chooses tasks, -l PATTERN hosts",
    "-d": _DETACHED,
    "--detach": _DETACHED,
    "--build": "leave it out: an image is made where what it is made of has changed",
    "--force-recreate": "hostctl restart NAME; what differs from the playbook is replaced anyway",
    "--remove-orphans": "hostctl apply --prune PLAYBOOK",
    "--scale": "write `scale` or `deploy.replicas` into the playbook",
    "--file": "the playbook is the argument: hostctl apply PLAYBOOK",
    "--project-name": "write `project` into the play",
    "-q": "--json has everything for scripts",
    "--quiet": "--json has everything for scripts",
    "--format": "--json has everything for scripts",
    "--rmi": "images go with the last project that has them",
}

_PLACED = ("-i", "--inventory", "-l", "--limit", "-e", "--extra-vars", "-v", "--verbose", "--debug")


def instead(word: str) -> str:
    """What a verb of other tools is here; empty for one that nobody is used to."""
    return VERBS.get(word, "")


def taught(error: click.ClickException) -> click.ClickException:
    """The same error; where an option is unknown here and known elsewhere, with what to type."""
    if not isinstance(error, click.NoSuchOption):
        return error
    meant = OPTIONS.get(error.option_name, "")
    if error.ctx is not None and error.ctx.parent is None and error.option_name in _PLACED:
        meant = f"options follow the verb: hostctl plan {error.option_name} ..."
    if not meant:
        return error
    said = f"No such option {error.option_name!r}. Instead: {meant}"
    return click.NoSuchOption(error.option_name, said, ctx=error.ctx)
