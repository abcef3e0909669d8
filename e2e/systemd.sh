#!/bin/sh
# Boots a real systemd, for systemd_test.go, in namespaces of its own and on a throw-away copy of this machine's root:
#
#   sh systemd.sh DIR      DIR/pid is then the process that is PID 1 there; it all ends with this script
#
# Needs root, overlayfs, cgroup 2, and util-linux and iproute2 beside systemd. All mounts are made in a namespace of the
# script: nothing has to be undone but the cgroup. The network is loopback alone.
set -eu
case ${1:-} in
inside) ;;
mounts)
  dir=$2
  cgroups=$(findmnt -n -t cgroup2 -o TARGET | head -n 1)
  if [ -z "$cgroups" ]; then
    mkdir "$dir/cgroup"
    mount -t cgroup2 cgroup2 "$dir/cgroup"
    cgroups=$dir/cgroup
  fi
  before=$(sed -n 's/^0:://p' /proc/self/cgroup)
  ours=$cgroups/sealkeep-test-$$
  mkdir "$ours"
  # PID 1 gets a cgroup of its own before it gets a namespace, or it would move this machine's processes.
  echo $$ >"$ours/cgroup.procs"
  unshare --fork --kill-child --pid --mount --uts --ipc --cgroup --net sh "$0" inside "$dir" &
  echo $$ >"$cgroups$before/cgroup.procs"
  trap 'kill -KILL $!' TERM INT # which ends PID 1, and with it everything
  wait $! || :
  n=0
  while [ -d "$ours" ] && [ $n -lt 100 ]; do
    find "$ours" -depth -type d -exec rmdir {} + 2>/dev/null || :
    n=$((n + 1))
    [ ! -d "$ours" ] || sleep 0.05
  done
  exit
  ;;
*)
  exec unshare --mount --propagation private sh "$0" mounts "$1"
  ;;
esac

dir=$2
read -r pid _ </proc/self/stat # /proc is still that of the machine, and so is the number
mkdir "$dir/box"
mount -t tmpfs -o mode=755 box "$dir/box"
mkdir "$dir/box/upper" "$dir/box/work" "$dir/box/root"
root=$dir/box/root
mount -t overlay -o "lowerdir=/,upperdir=$dir/box/upper,workdir=$dir/box/work" overlay "$root"

# What this machine starts by itself stays away.
rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/systemd/system/*.requires "$root"/usr/lib/systemd/system/*.wants
: >"$root/etc/fstab"
cat >"$root/etc/systemd/system/box.target" <<END
[Unit]
Wants=systemd-journald.service systemd-journald.socket sysinit.target
After=systemd-journald.service sysinit.target
END

mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys" # the settings of the kernel are this machine's
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o nosuid,mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  : >"$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o nosuid,nodev tmpfs "$root/dev/shm"
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs "$root/run"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/tmp"
hostname box
ip link set lo up
ip address add 10.0.0.5/32 dev lo # the address in network.hcl
echo "$pid" >"$dir/pid.new"
mv "$dir/pid.new" "$dir/pid"
cd "$root"
mkdir run/old
pivot_root . run/old
umount -l run/old
rmdir run/old
mount --make-rshared / # systemd leaves that out in a container, and without it no credential arrives
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=box.target --log-target=console --show-status=no
