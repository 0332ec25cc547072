"""Whether a path lies on another machine."""

import os
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset(
    {"afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
     "nfs4", "ocfs2", "orangefs", "smb", "smb2", "smb3", "smbfs"}
)  # fmt: skip
_REMOTE_FUSE = ("sshfs", "s3fs", "gcsfuse", "glusterfs", "davfs", "rclone", "blobfuse", "goofys", "ceph", "juicefs")


def network_filesystem(path: Path) -> str | None:
    """Return the type of the file system that *path* lies on if it is a network's, else None.

    Known on Linux only; elsewhere the answer is None.
    """
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    kind = _kind_at(os.path.realpath(path), mounts)
    base, _, fuse = kind.partition(".")
    return kind if base in _NETWORK or (base == "fuse" and fuse.startswith(_REMOTE_FUSE)) else None


def _kind_at(path: str, mounts: str) -> str:
    found, kind = "", ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        # Spaces in a mount point are written in octal; a later mount at one place covers the earlier.
        place = fields[4].replace("\\040", " ").rstrip("/") + "/"
        if f"{path}/".startswith(place) and len(place) >= len(found):
            found, kind = place, right.split(" ")[0]
    return kind
