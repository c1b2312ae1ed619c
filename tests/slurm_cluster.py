"""A real Slurm on this machine: munged, slurmctld and two slurmd with a CPU each, on loopback, without systemd."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import psutil

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")


def missing() -> list[str]:
    """What is not installed (Debian: slurmctld slurmd slurm-client munge), or that it takes root."""
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    return [name for name in NEEDED if not shutil.which(name)] + ([] if os.geteuid() == 0 else ["root"])


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Cluster:
    """Starts the daemons in a folder; `conf` is what SLURM_CONF must point to."""

    def __init__(self, folder: Path):
        self.folder, self.conf = folder, folder / "slurm.conf"
        self.munge, self.socket = folder / "munge", folder / "munge.socket"
        for name in ("munge", "controller", "n1", "n2"):
            (folder / name).mkdir(parents=True)
            (folder / name).chmod(0o755)
        folder.chmod(0o755)
        (self.munge / "key").write_bytes(os.urandom(128))
        (self.munge / "key").chmod(0o400)
        ports = free_ports(3)
        lines = {
            "ClusterName": "test", "SlurmctldHost": "localhost(127.0.0.1)", "SlurmctldPort": ports[0],
            "SlurmUser": "root", "AuthType": "auth/munge", "AuthInfo": f"socket={self.socket}",
            "CredType": "cred/munge", "StateSaveLocation": folder / "controller", "ReturnToService": 2,
            "SlurmctldPidFile": folder / "controller.pid", "SlurmctldLogFile": folder / "controller.log",
            "SlurmdSpoolDir": f"{folder}/%n", "SlurmdPidFile": f"{folder}/%n.pid", "SlurmdLogFile": f"{folder}/%n.log",
            "ProctrackType": "proctrack/linuxproc", "TaskPlugin": "task/none", "MpiDefault": "none",
            "JobAcctGatherType": "jobacct_gather/none", "AccountingStorageType": "accounting_storage/none",
            "SelectType": "select/cons_tres", "SelectTypeParameters": "CR_Core", "InactiveLimit": 0, "KillWait": 2,
            "SchedulerParameters": "sched_interval=1,bf_interval=1", "SlurmdTimeout": 6, "MessageTimeout": 3,
            "CommunicationParameters": "NoInAddrAny,NoCtldInAddrAny",
        }  # fmt: skip
        nodes = [
            f"NodeName=n{i} NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[i]} CPUs=1 RealMemory=1000"
            for i in (1, 2)
        ]
        text = "\n".join([*(f"{key}={value}" for key, value in lines.items()), *nodes])
        self.conf.write_text(text + "\nPartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n")
        os.environ["SLURM_CONF"] = str(self.conf)

    def start(self) -> None:
        """Returns when both nodes are idle. Raises RuntimeError with the logs if that takes a minute."""
        files = {"key-file": "key", "log-file": "log", "pid-file": "pid", "seed-file": "seed"}
        options = [f"--{option}={self.munge / name}" for option, name in files.items()]
        subprocess.run(["munged", "--force", f"--socket={self.socket}", *options], check=True)
        subprocess.run(["slurmctld"], check=True)
        for node in ("n1", "n2"):
            subprocess.run(["slurmd", "-N", node], check=True)
        for _ in range(240):
            if subprocess.run(["sinfo", "-h", "-o", "%T %D"], capture_output=True, text=True).stdout == "idle 2\n":
                return
            time.sleep(0.25)
        raise RuntimeError("\n".join(path.read_text() for path in self.folder.glob("*.log")))

    def kill_node(self, node: str) -> None:
        """As if its power had gone: slurmd, its step daemons and all that they run end at once."""
        slurmd = psutil.Process(int((self.folder / f"{node}.pid").read_text()))
        steps = [p for p in psutil.process_iter() if self.is_step_of(p, node)]
        running = [child for step in steps for child in step.children(recursive=True)]
        for process in (slurmd, *steps, *running):
            process.kill()

    @staticmethod
    def is_step_of(process: psutil.Process, node: str) -> bool:
        """Whether this is a slurmstepd of the node, whose script runs with the node's name in its environment."""
        try:
            if process.name() != "slurmstepd":
                return False
            return any(child.environ().get("SLURMD_NODENAME") == node for child in process.children())
        except psutil.Error:
            return False

    def stop(self) -> None:
        subprocess.run(["scancel", "-u", "root"], capture_output=True)
        subprocess.run(["scontrol", "shutdown"], capture_output=True)
        time.sleep(1)
        for name in ("n1.pid", "n2.pid", "controller.pid", "munge/pid"):
            if (self.folder / name).exists() and psutil.pid_exists(pid := int((self.folder / name).read_text())):
                psutil.Process(pid).kill()
        del os.environ["SLURM_CONF"]
