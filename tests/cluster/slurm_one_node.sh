#!/bin/bash
# A Slurm of one node on this machine, for tests: Debian or Ubuntu, root, no systemd needed.
#   slurm_one_node.sh install        installs Debian's slurm-wlm and munge where they are missing
#   slurm_one_node.sh start [GPUS]   starts it, after an install; GPUS are pretended
#   slurm_one_node.sh stop           ends it
set -euo pipefail
place=${SLURM_TEST_DIR:-/tmp/slurm-one-node}
host=$(hostname -s)
gpus=${2:-0}

stop() {
    for daemon in slurmd slurmctld munged; do
        [ -s "$place/$daemon.pid" ] && kill "$(cat "$place/$daemon.pid")" 2>/dev/null || true
        rm -f "$place/$daemon.pid"
    done
}

case ${1:-} in
    stop) stop; exit ;;
    install | start) ;;
    *) sed -n 2,5p "$0"; exit 2 ;;
esac
if ! command -v slurmctld >/dev/null; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends slurm-wlm munge
fi
[ "$1" = install ] && exit
if [ -e /etc/slurm/slurm.conf ] && ! grep -q '^ClusterName=one-node-test$' /etc/slurm/slurm.conf; then
    echo "slurm_one_node.sh: /etc/slurm/slurm.conf is of another cluster: it is left alone" >&2
    exit 1
fi
stop
rm -rf "$place"
mkdir -p "$place"/{spool,state,dev,munge} /etc/slurm
chown munge:munge "$place/munge"
install -d -o munge -g munge -m 755 /run/munge
gres=
: > /etc/slurm/gres.conf
if [ "$gpus" -gt 0 ]; then # device files that are clones of /dev/null: Slurm deals them out like GPUs
    for ((gpu = 0; gpu < gpus; gpu++)); do mknod "$place/dev/gpu$gpu" c 1 3; done
    echo "NodeName=$host Name=gpu File=$place/dev/gpu[0-$((gpus - 1))]" > /etc/slurm/gres.conf
    gres="Gres=gpu:$gpus"
fi
# cred_expire: how long a requeued job waits. Slurm believes in more cores than there are, so that jobs run side by side.
cat > /etc/slurm/slurm.conf <<C
ClusterName=one-node-test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MinJobAge=300
SchedulerParameters=batch_sched_delay=0,bf_interval=5,sched_interval=5
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
SlurmdSpoolDir=$place/spool
StateSaveLocation=$place/state
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd.log
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
$([ "$gpus" -gt 0 ] && echo GresTypes=gpu)
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=$(awk '/MemTotal/{print int($2 / 1280)}' /proc/meminfo) $gres State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP
C
# As the owner of its key; --force: the folder of its socket may belong to others.
su -s /bin/sh munge -c "/usr/sbin/munged --pid-file=$place/munge/munged.pid --force"
ln -sf "$place/munge/munged.pid" "$place/munged.pid"
slurmctld
slurmd
for _ in $(seq 40); do
    if sinfo --noheader --format=%T | grep -q idle; then
        sinfo --format='%n %c cores, gres %G, %T'
        exit
    fi
    sleep 0.5
done
echo "slurm_one_node.sh: the node did not come up, see $place/*.log" >&2
exit 1
