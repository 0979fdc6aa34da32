"""Make images that no distribution ships.

crafted.py scratch DIR BUSYBOX   DIR/scratch.tar: one static program, no shell, no directories
crafted.py hostile DIR           DIR/hostile.tar: three layers of names, times, owners, modes, attributes,
                                 links and devices at their limits, with whiteouts and replacements
"""
import io
import os
import sys
import tarfile

import pack

CAPABILITY = bytes([1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).decode("latin-1")  # cap_net_raw=ep
RAW = os.fsdecode  # bytes that are no UTF-8, as Python spells them


class Layer:
    """One layer. Times are 2001-09-09 unless given, so that nothing depends on the build."""

    def __init__(self, path):
        self.tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT, errors="surrogateescape")

    def add(self, name, kind=tarfile.REGTYPE, data=b"", mode=0o644, xattrs=None, gnu=False, **more):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.mtime, info.size = kind, mode, 10**9, len(data)
        for key, value in more.items():
            setattr(info, key, value)
        info.pax_headers = {"SCHILY.xattr." + key: value for key, value in (xattrs or {}).items()}
        self.tar.format = tarfile.GNU_FORMAT if gnu else tarfile.PAX_FORMAT
        self.tar.addfile(info, io.BytesIO(data))

    def dir(self, name, mode=0o755, **more):
        self.add(name, tarfile.DIRTYPE, mode=mode, **more)

    def symlink(self, name, target, **more):
        self.add(name, tarfile.SYMTYPE, mode=0o777, linkname=target, **more)

    def link(self, name, target):
        self.add(name, tarfile.LNKTYPE, linkname=target)


def below(path):
    """What the opaque root of the next layer hides altogether."""
    l = Layer(path)
    l.dir(".")
    l.add("hidden-by-opaque-root")
    l.dir("etc")
    l.add("etc/passwd", data=b"hidden too\n")
    l.tar.close()


def base(path):
    l = Layer(path)
    l.dir(".", mode=0o755, mtime=999999999)
    l.add(".wh..wh..opq")

    # Each directory comes right before what is in it, or GNU tar loses its time.
    l.dir("names", mtime=3)
    l.add("names/" + "n" * 255)
    l.add("names/" + "ü" * 127)
    for name in ("Case", "case", "CASE", "new\nline", "quote'\"", "back\\slash", " ", "-rf", "*", "$(reboot)", "...", ".wh", "tab\t", "bell\a\x1b[31m", "ünï", "\U0001F980"):
        l.add("names/" + name, data=name.encode())
    l.add("names/" + RAW(b"latin-\xe9\xff"), gnu=True)
    deep = "names"
    for n in range(100):
        deep += "/d%d" % n
        l.dir(deep)
    l.add(deep + "/leaf", data=b"deep\n")

    l.dir("times", mtime=-7)
    for n, at in enumerate((0, 1, -1, -86400, -2**31, 2**31, 2**32 + 5, 2**33)):
        l.add("times/%d" % n, mtime=at)
    l.add("times/fraction", mtime=1234567890.25)
    l.dir("times/dir", mtime=-5)
    l.symlink("times/symlink", "0", mtime=77)

    l.dir("modes")
    for mode in (0, 0o1, 0o777, 0o1777, 0o2755, 0o4755, 0o7777):
        l.add("modes/file-%04o" % mode, mode=mode)
        l.dir("modes/dir-%04o" % mode, mode=mode)

    l.dir("owners", uid=77, gid=88)
    for uid, gid in ((1, 2), (65534, 65534), (65536, 100000), (2**31 + 7, 2**32 - 2), (2**32 - 2, 0)):
        l.add("owners/%d-%d" % (uid, gid), uid=uid, gid=gid, mode=0o4711)
        l.symlink("owners/link-%d" % uid, "x", uid=uid, gid=gid)

    l.dir("devices")
    for name, kind, major, minor in (("null", tarfile.CHRTYPE, 1, 3), ("disk", tarfile.BLKTYPE, 8, 0), ("largest", tarfile.BLKTYPE, 4095, 2**20 - 1),
                                     ("minor-256", tarfile.CHRTYPE, 5, 256)):
        l.add("devices/" + name, kind, mode=0o660, devmajor=major, devminor=minor)
    l.add("devices/fifo", tarfile.FIFOTYPE, mode=0o622)
    l.link("devices/null-again", "devices/null")

    l.dir("links")
    l.add("links/file", data=b"one inode\n", mode=0o640)
    for n in range(20):
        l.link("links/again-%d" % n, "links/file")
    l.symlink("links/symlink", "file")
    l.link("links/symlink-again", "links/symlink")
    l.link("links/fifo-again", "devices/fifo")
    for name, target in (("absolute", "/etc/passwd"), ("climbing", "../../../../../../etc/passwd"), ("loop", "loop"), ("dangling", "nowhere"),
                         ("long", "t/" * 2000), ("dot", ".")):
        l.symlink("links/" + name, target)
    l.symlink("links/raw", RAW(b"\xff\xfe"), gnu=True)

    l.dir("xattrs")
    l.add("xattrs/capability", data=b"#!/bin/sh\n", mode=0o755, xattrs={"security.capability": CAPABILITY})
    l.add("xattrs/many", xattrs={"user.%02d" % n: "value %d" % n for n in range(40)})
    l.add("xattrs/long", xattrs={"user.long": "v" * 3000, "user." + "k" * 200: "x"})
    l.add("xattrs/trusted", xattrs={"trusted.note": "for root"})
    l.dir("xattrs/dir", xattrs={"user.on": "a directory"})
    l.symlink("xattrs/symlink", "many", xattrs={"trusted.on": "a symlink"})

    l.dir("sizes")
    for size in (0, 1, 4095, 4096, 4097, 2**20 + 1):
        l.add("sizes/%d" % size, data=bytes((n * 7 + n // 256) & 0xFF for n in range(size)))
    l.add("sizes/zeroes", data=bytes(3 << 20))

    l.dir("many")
    for n in range(3000):
        l.add("many/entry-%04d" % n)

    l.dir("changes")
    l.add("changes/replaced", data=b"lower\n")
    l.add("changes/removed")
    l.dir("changes/removed-dir")
    l.add("changes/removed-dir/inside")
    l.dir("changes/file-over-dir")
    l.add("changes/file-over-dir/inside")
    l.add("changes/dir-over-file")
    l.dir("changes/opaque")
    l.add("changes/opaque/hidden")
    l.dir("changes/opaque/hidden-dir")
    l.add("changes/removed-and-back", data=b"lower\n")
    l.dir("changes/merged", mode=0o755)
    l.add("changes/merged/kept", data=b"kept\n")
    l.dir("changes/mode-only", mode=0o755)
    l.add("changes/linked-below", data=b"two layers, one inode\n")
    l.add("changes/pair-a", data=b"pair\n")
    l.link("changes/pair-b", "changes/pair-a")
    l.symlink("changes/symlink", "merged")
    l.tar.close()


def changes(path):
    l = Layer(path)
    l.dir("changes", mtime=2 * 10**9)
    l.add("changes/replaced", data=b"upper\n", mode=0o600, uid=5)
    l.add("changes/.wh.removed")
    l.add("changes/.wh.removed-dir")
    l.add("changes/.wh.never-there")
    l.add("changes/file-over-dir", data=b"a file now\n")
    l.dir("changes/dir-over-file", mode=0o711)
    l.add("changes/dir-over-file/inside")
    l.dir("changes/opaque", mode=0o700)
    l.add("changes/opaque/.wh..wh..opq")
    l.add("changes/opaque/own")
    l.add("changes/.wh.removed-and-back")
    l.add("changes/removed-and-back", data=b"upper\n")
    l.dir("changes/merged", mode=0o750, uid=9)
    l.add("changes/merged/added", data=b"added\n")
    l.dir("changes/mode-only", mode=0o1733)
    l.link("changes/linked-above", "changes/linked-below")
    l.add("changes/pair-a", data=b"alone\n")
    l.symlink("changes/symlink", "elsewhere")
    l.tar.close()


def hostile(out):
    layers = [os.path.join(out, "hostile-%d.layer" % n) for n in range(3)]
    for make, layer in zip((below, base, changes), layers):
        make(layer)
    pack.docker("hostile:latest", os.path.join(out, "hostile.tar"), layers, run={})


def scratch(out, busybox):
    layer = os.path.join(out, "scratch.layer")
    l = Layer(layer)
    with open(busybox, "rb") as f:
        l.add("echo", data=f.read(), mode=0o755)  # it looks at the name it is called by
    l.tar.close()
    pack.docker("scratch:latest", os.path.join(out, "scratch.tar"), [layer], run={"Entrypoint": ["/echo", "from", "scratch"]})


{"scratch": scratch, "hostile": hostile}[sys.argv[1]](*sys.argv[2:])
