"""Runs on the controller: the keys of plays and tasks: supported here, or Ansible's and not yet here."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PLAY = _words(
    """
    name project hosts become become_user become_method gather_facts gather_subset vars vars_files
    serial tags pre_tasks tasks post_tasks handlers images networks volumes secrets configs containers
    services remote_user connection port environment no_log prune
    """
)
PLAY_LATER = _words(
    """
    roles max_fail_percentage any_errors_fatal force_handlers order run_once ignore_unreachable
    check_mode diff vars_prompt strategy throttle timeout module_defaults debugger collections fact_path
    become_exe become_flags ignore_errors confirm on_failure gather_timeout
    import_playbook
    """
)
TASK = _words(
    """
    name when loop loop_control register notify tags vars ignore_errors changed_when failed_when no_log
    become become_user become_method args listen with_items environment
    """
)
TASK_LATER = _words(
    """
    action local_action until retries delay check_mode diff delegate_to delegate_facts run_once block
    rescue always timeout throttle async poll any_errors_fatal become_exe become_flags collections
    connection debugger ignore_unreachable module_defaults port remote_user with_dict with_fileglob
    with_together with_subelements with_sequence with_nested with_random_choice with_list
    with_items_flattened with_indexed_items with_flattened with_first_found
    """
)
LOOP_CONTROL = _words("loop_var index_var label")
LOOP_CONTROL_LATER = _words("pause extended extended_allitems break_when")

# Actions that run on the controller, without a host.
LOCAL = {
    "set_fact": "any name and its value",
    "debug": "msg or var",
    "assert": "that, fail_msg, success_msg, quiet",
    "fail": "msg",
}

# Well-known Ansible modules that are no kind here (yet), with what to use instead.
MODULES_LATER = {
    "apt": "package",
    "dnf": "package",
    "yum": "package",
    "apk": "package",
    "pacman": "package",
    "zypper": "package",
    "systemd": "service",
    "systemd_service": "service",
    "shell": "command: {argv: [sh, -c, ...]}",
    "raw": "command",
    "docker_container": "container",
    "docker_image": "image",
    "docker_network": "network",
    "docker_volume": "volume",
} | dict.fromkeys(
    _words(
        """
    script lineinfile blockinfile replace stat find slurp fetch get_url unarchive apt_repository apt_key
    authorized_key cron hostname sysctl mount git pip wait_for wait_for_connection reboot pause
    include_tasks import_tasks include_role import_role include_vars add_host group_by setup ping uri
    meta ufw iptables firewalld timezone known_hosts getent archive synchronize service_facts
    package_facts container_signal dpkg_selections debconf assemble tempfile expect
    validate_argument_spec
    """
    ),
    "",
)

# Compose's keys of a service, to tell "not yet" from "no such key".
COMPOSE_SERVICE = _words(
    """
    image build command entrypoint environment env_file ports expose volumes networks network_mode
    depends_on restart healthcheck container_name hostname domainname labels user group_add working_dir
    init tty stdin_open read_only privileged cap_add cap_drop security_opt ulimits sysctls tmpfs
    shm_size devices dns dns_search dns_opt extra_hosts configs secrets logging pull_policy platform
    stop_signal stop_grace_period mem_limit mem_reservation memswap_limit cpus cpu_shares cpuset
    pids_limit deploy pid ipc userns_mode profiles extends scale post_start pre_stop pre_start
    annotations label_file links volumes_from uts cgroup cgroup_parent cpu_quota cpu_period
    mem_swappiness oom_score_adj oom_kill_disable blkio_config device_cgroup_rules storage_opt
    mac_address attach gpus develop runtime provider cpu_rt_runtime cpu_rt_period credential_spec
    isolation cpu_count cpu_percent external_links use_api_socket models
    """
)
# Keys of Compose that no Linux host without Docker can have, and why.
COMPOSE_REFUSED = {
    "credential_spec": ("it is for Windows containers", ""),
    "isolation": ("it is for Windows containers", ""),
    "cpu_count": ("it is for Windows containers", "use cpus"),
    "cpu_percent": ("it is for Windows containers", "use cpus"),
    "external_links": (
        "containers find each other by name",
        "declare the other one's network as external, and name it in networks",
    ),
    "use_api_socket": ("there is no Docker engine whose socket it could be", ""),
    "models": ("hostctl runs no models", "declare a container that serves the model"),
}
COMPOSE_NETWORK = _words(
    """
    name driver external internal enable_ipv4 enable_ipv6 ipam labels driver_opts attachable
    """
)
COMPOSE_VOLUME = _words("name driver external labels driver_opts")
COMPOSE_IMAGE = _words("build")
LATER_BY_KIND = {
    "container": COMPOSE_SERVICE,
    "network": COMPOSE_NETWORK,
    "volume": COMPOSE_VOLUME,
    "image": COMPOSE_IMAGE,
    "secret": _words("vault driver driver_opts template_driver"),
    "config": _words("template_driver"),
    "file": _words("recurse follow force modification_time access_time attributes setype"),
    "copy": _words(
        """
    backup force remote_src validate directory_mode follow local_follow checksum
    """
    ),
    "template": _words(
        """
    backup force validate newline_sequence block_start_string lstrip_blocks
    """
    ),
    "command": _words("_uses_shell stdin_add_newline strip_empty_ends warn"),
    "package": _words("use"),
    "service": _words("sleep pattern arguments runlevel use daemon_reload masked scope"),
    "user": _words(
        """
    groups append password update_password generate_ssh_key ssh_key_bits ssh_key_file ssh_key_comment
    expires move_home remove force non_unique seuser password_lock umask
    """
    ),
    "group": _words("local force non_unique"),
}
