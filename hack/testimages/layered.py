"""Split a root file system into an image of fifteen layers, as builds leave them behind.

layered.py FULL.TAR DIR    DIR/layered.NN.layer: the root in FULL.TAR, cut by directory, between
                           layers that add files which later ones hide, replace and link to

What the layers make together is the root in FULL.TAR plus /opt/layers.
"""
import io
import sys
import tarfile

LAYERS = 15
BASE = 11  # layers that the root is cut into; the others are made up
CAPABILITY = bytes([1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).decode("latin-1")  # cap_net_raw=ep


class Layer:
    def __init__(self, path):
        self.tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT, errors="surrogateescape")

    def add(self, name, data=b"", kind=tarfile.REGTYPE, mode=0o644, xattrs=None, **more):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.mtime, info.size = kind, mode, 10**9, len(data)
        for key, value in more.items():
            setattr(info, key, value)
        info.pax_headers = {"SCHILY.xattr." + key: value for key, value in (xattrs or {}).items()}
        self.tar.addfile(info, io.BytesIO(data))

    def dir(self, name, mode=0o755):
        self.add(name, kind=tarfile.DIRTYPE, mode=mode)


def place(name):
    """The layer of a path: packages' parts spread over layers, their directories stay together."""
    parts = name.strip("./").split("/")
    key = "/".join(parts[:4])
    return 1 + sum(key.encode()) % (BASE - 1)


def cut(full, layers):
    source = tarfile.open(full)
    placed = {}
    for info in source:
        info.pax_headers = {k: v for k, v in info.pax_headers.items() if k.startswith("SCHILY.xattr.")}
        if info.isdir():
            layers[0].tar.addfile(info)  # all directories first, so that later layers only fill them
            continue
        at = placed[info.name] = placed[info.linkname] if info.islnk() else place(info.name)
        layers[at].tar.addfile(info, source.extractfile(info) if info.isreg() else None)


def main(full, out):
    layers = [Layer("%s/layered.%02d.layer" % (out, n)) for n in range(LAYERS)]
    cut(full, layers)
    # Decoys below, each of which a layer above undoes in another way.
    one, two, three, four = layers[BASE:]
    for l in (one, two, three, four):
        l.dir("opt")
        l.dir("opt/layers")
    for n in range(50):
        one.add("opt/layers/hidden-%d" % n, b"hidden later\n" * n)
    one.dir("opt/layers/opaque", 0o700)
    one.add("opt/layers/opaque/lower", b"hidden by an opaque directory\n")
    one.dir("opt/layers/becomes-file")
    one.add("opt/layers/becomes-file/lost", b"x")
    one.add("opt/layers/becomes-dir", b"x")
    one.dir("opt/layers/kept", 0o1777)
    one.add("opt/layers/kept/below", b"stays\n")
    one.add("opt/layers/linked", b"one inode in two layers\n" * 1000)
    one.add("opt/layers/able", b"#!/bin/sh\n", mode=0o755, xattrs={"security.capability": CAPABILITY})

    for n in range(50):
        two.add("opt/layers/.wh.hidden-%d" % n)
    two.add("opt/layers/.wh.opaque")
    two.add("opt/layers/becomes-file", b"a file now\n")
    two.dir("opt/layers/becomes-dir")
    two.add("opt/layers/becomes-dir/inside", b"inside\n")
    two.add("opt/layers/hard", b"within a layer\n" * 500)
    two.add("opt/layers/hard2", kind=tarfile.LNKTYPE, linkname="opt/layers/hard")

    three.dir("opt/layers/opaque", 0o711)
    three.add("opt/layers/opaque/.wh..wh..opq")
    three.add("opt/layers/opaque/upper", b"upper\n")
    three.add("opt/layers/kept/above", b"its directory is not described here\n")
    three.add("opt/layers/linked2", kind=tarfile.LNKTYPE, linkname="opt/layers/linked")
    three.add("opt/layers/able", b"#!/bin/sh\ntrue\n", mode=0o755, xattrs={"security.capability": CAPABILITY, "user.note": "new"})

    four.add("opt/layers/hidden-7", b"back again\n")
    four.add("opt/layers/last", kind=tarfile.SYMTYPE, mode=0o777, linkname="hidden-7")
    for l in layers:
        l.tar.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
