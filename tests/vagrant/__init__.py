"""Runs on the test machine: virtual machines with a kernel, systemd and disks of their own, made by Vagrant.

`make test-vm` installs what is needed, builds a box from Debian's packages (cached), boots two
machines and runs the scenarios of this folder on them. It needs root on Debian, neither KVM nor a box
catalogue, and about 1.5 GB of memory for each machine. Everything (libvirt, bridges, QEMU, a registry)
lives in a network, mount and pid namespace, and so goes with the first process in it, however that
ends. `python -m tests.vagrant` says how to keep machines and look at them:

    scripts/vm up                  boot two that stay; `scripts/vm test` uses them then
    scripts/vm test tests/vagrant/test_limits.py -k memory
    scripts/vm ssh vm1             log in; `sudo -i` is root
    scripts/vm enter virsh list    a program (or a shell) where libvirt and the machines' network are
    scripts/vm down                nothing stays

What they are is said by variables: those that `tests/vagrant/Vagrantfile` lists (a box of your own,
KVM, memory, cpus, names), `HOSTCTL_VM_SUITE` (bullseye, bookworm, trixie: the release of our box), and
`HOSTCTL_VM_NAME`: machines of different names run side by side and do not see each other.

A scenario is a test that takes the fixture `site` (`tests/vagrant/conftest.py`):

    site.write(text, project="shop")       a playbook: its tasks, images, containers, below `hosts: vm1`
    site("apply", path)                    hostctl over SSH as `vagrant` with sudo; `code=` if not 0
    site.changed("plan", path)             what it would change; [] is converged
    site.ps()                              container -> state
    site.vm                                the machine: `machines.Machine`

    vm.run([...]), vm.sh("..."), vm.systemctl(...)   as root on it, over an SSH connection that is kept
    vm.wait_until("test -e /x")                      a shell condition, with patience
    vm.container_pid("shop-web-1")
    vm.reboot()                                      in order, and ready again
    vm.cut_power(), vm.power_on()                    QEMU is killed; booted again, and ready
    vm.address, vm.console, vm.ssh()                 for urllib and sockets; the kernel's words; words of ssh

What a scenario made is destroyed afterwards (`site` does it for every playbook that it wrote); what
else it changed on the machine it puts back itself. `site.others` are the machines but the first,
`site.machines` all of them. Images are the lab's, at the variable `registry`: `site.write` declares
shell, nginx and redis as they are used. Mark with `core` what is to hold on every release, with `nightly`
what takes minutes (it installs packages): `make test-vm` leaves it out.
Packages that a scenario installs are listed in `box.OFFLINE`: apt has them on its disk, for machines
have no way out to a mirror.
"""
