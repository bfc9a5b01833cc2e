# Runs on the test machine as PID 1 of a lab host's new namespaces: mounts the host's root, enters it
# and becomes the host's init. Arguments: work folder of the host, lower root, cgroup mount table, tini or systemd.
set -eu
work=$1 lower=$2 cgroups=$3 init=$4
root=$work/root
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/work" "$root"
mount --bind "$work/data" "$root/var/lib/hostctl"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs "$root/run"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o nosuid,mode=755 tmpfs "$root/dev"
cd "$root/dev"
mkdir pts shm mqueue net
mount -t devpts -o newinstance,mode=620,gid=5,ptmxmode=666 devpts pts
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs shm
mount -t mqueue -o nosuid,nodev,noexec mqueue mqueue
mknod -m 666 null c 1 3
mknod -m 666 zero c 1 5
mknod -m 666 full c 1 7
mknod -m 666 random c 1 8
mknod -m 666 urandom c 1 9
mknod -m 666 tty c 5 0
mknod -m 666 fuse c 10 229
mknod -m 666 net/tun c 10 200
ln -s pts/ptmx ptmx
ln -s /proc/self/fd fd
ln -s /proc/self/fd/0 stdin
ln -s /proc/self/fd/1 stdout
ln -s /proc/self/fd/2 stderr
# The cgroup namespace is rooted at the host's own subtree: these mounts show that and no more.
while read -r type options target; do
    case $target in /sys/fs/cgroup) ;; *)
        mountpoint -q "$root/sys/fs/cgroup" ||
            mount -t tmpfs -o nosuid,nodev,noexec,mode=755 tmpfs "$root/sys/fs/cgroup"
        mkdir -p "$root$target" ;;
    esac
    mount -t "$type" -o "nosuid,nodev,noexec,$options" cgroup "$root$target"
done < "$cgroups"
cp -a "$work/seed/." "$root/"
[ ! -x "$work/prepare" ] || "$work/prepare" "$root"
cd "$root"
mkdir -p .machine
pivot_root . .machine
umount -l .machine
rmdir .machine
hostname "$(cat /etc/hostname)"
mkdir -p /run/sshd /run/lock
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if [ "$init" = systemd ]; then
    # The variable says that hardware and kernel are somebody else's: no udev, no fsck, no clock.
    exec env -i PATH="$path" container=lab /lib/systemd/systemd < /dev/null > /var/log/boot.log 2>&1
fi
# The machine configures the network meanwhile; its last step is to write this file's first byte.
exec env -i PATH="$path" tini -- sh -c '/usr/sbin/sshd -E /var/log/sshd.log; exec sleep infinity' \
    < /dev/null > /var/log/boot.log 2>&1
