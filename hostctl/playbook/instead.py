"""Runs on the controller: what to write instead of Ansible's keys and modules that are not supported yet."""

from __future__ import annotations

_BEFORE = "leave it out: "
_LOOP = "use loop, with a filter that makes the list (dict2items, product, zip, subelements)"
_INLINE = "write its tasks into this playbook"
_ONE_HOST = "make a play of its own with that host in `hosts:`"
_FILES = "use copy or template with the whole file, which the plan then shows line by line"

KEYS = {
    "roles": "write the role's tasks, handlers and vars into the play",
    "max_fail_percentage": "use serial: a host that failed is left out of later plays",
    "any_errors_fatal": "use serial: a host that failed is left out of later plays",
    "force_handlers": f"{_BEFORE}handlers of a run that failed are owed to the next one",
    "run_once": _ONE_HOST,
    "check_mode": f"{_BEFORE}`hostctl plan` shows what would change",
    "diff": f"{_BEFORE}diffs are always shown; --no-diff hides them",
    "vars_prompt": "give them by -e NAME=VALUE",
    "strategy": f"{_BEFORE}hosts of a play do not wait for each other",
    "throttle": "use serial, or --forks",
    "module_defaults": "write the arguments into the tasks, or a YAML anchor",
    "collections": f"{_BEFORE}kinds of your own lie in `modules/` beside the playbook",
    "import_playbook": "run hostctl once for each playbook, or write its plays into this one",
    "ignore_errors": "write it into the tasks",
    "block": "write its tasks one after another, each with the block's `when`, `become` and `vars`",
    "rescue": "use register with ignore_errors, and `when: NAME is failed` in the tasks that follow",
    "always": "use register with ignore_errors in the tasks before; those that follow then always run",
    "delegate_to": _ONE_HOST,
    "delegate_facts": _ONE_HOST,
    "local_action": "make a play of its own with `hosts: localhost` and `connection: local`",
    "action": "write the kind as the key: `copy: {...}`",
    "until": "use command with a loop of the shell: [sh, -c, 'until ...; do sleep 1; done']",
    "retries": "use command with a loop of the shell: [sh, -c, 'until ...; do sleep 1; done']",
    "async": "use service for what goes on, or a container",
    "poll": "use service for what goes on, or a container",
    "timeout": "use command: [timeout, SECONDS, ...]",
    "remote_user": "write it into the play, or `ansible_user` into the inventory",
    "connection": "write it into the play, or `ansible_connection` into the inventory",
    "become_exe": f"{_BEFORE}sudo is found by PATH",
    "with_fileglob": "use loop with the paths",
    "with_random_choice": "use set_fact with the filter random",
}

MODULES = {
    "include_tasks": _INLINE,
    "import_tasks": _INLINE,
    "include_role": _INLINE,
    "import_role": _INLINE,
    "include_vars": "use vars_files of the play",
    "setup": f"{_BEFORE}facts are there before the first task, as ansible_facts",
    "ping": f"{_BEFORE}a host that cannot be reached is said by every run",
    "lineinfile": _FILES,
    "blockinfile": _FILES,
    "replace": _FILES,
    "cron": "use copy with a file in /etc/cron.d",
    "sysctl": "use copy with a file in /etc/sysctl.d, and notify a command: sysctl --system",
    "pause": "use command: [sleep, SECONDS]",
    "wait_for": "use command with a loop of the shell, or `depends_on` and healthcheck of a container",
    "script": "use copy and command",
    "get_url": "use command with curl and `creates`",
    "unarchive": "use command with tar and `creates`",
    "stat": "use command: [test, -e, PATH] with register and failed_when: false",
    "slurp": "use command: [cat, PATH] with register and changed_when: false",
    "authorized_key": "use copy with the whole ~/.ssh/authorized_keys",
    "hostname": "use copy with /etc/hostname, and notify a command: hostname -F /etc/hostname",
    "apt_repository": "use copy with a file in /etc/apt/sources.list.d",
    "apt_key": "use copy with a file in /etc/apt/keyrings",
    "git": "use command: [git, clone, URL, PATH] with `creates`",
    "pip": "use command: [pip, install, NAME]",
    "ufw": "use command: [ufw, ...]",
    "container_signal": "run it by hand: hostctl exec NAME kill ...",
    "meta": f"{_BEFORE}handlers run after each section; several plays run one after another",
    "group_by": "use the groups of the inventory, or `when`",
    "add_host": "write the host into the inventory, or have a program write it (an inventory script)",
    "fetch": "use command: [cat, PATH] with register",
    "uri": "use command: [curl, -fsS, URL]",
}


def of_key(key: str) -> str:
    """What to write instead of a key of a play or task; empty where there is nothing like it."""
    return KEYS.get(key) or (_LOOP if key.startswith("with_") else "")


def of_module(name: str) -> str:
    """The same for a module's short name."""
    return MODULES.get(name, "")
