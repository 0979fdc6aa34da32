"""Pack layers into image archives.

pack.py TAG DIR NAME LAYER...              docker archive DIR/NAME.tar
pack.py --oci CODEC TAG DIR NAME LAYER...  OCI layout DIR/NAME.tar; LAYER.gz or LAYER.zst hold the blobs
pack.py --changes FILE                     a layer with whiteouts for the Debian image

crafted.py imports it for images of its own.
"""
import hashlib
import io
import json
import os
import sys
import tarfile


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


RUN = {
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TEST_IMAGE=1"],
    "Cmd": ["/bin/sh"], "WorkingDir": "/", "Labels": {"test.image": "yes"}, "StopSignal": "SIGTERM",
}


def config(layers, arch="amd64", run=RUN):
    return json.dumps({
        "architecture": arch, "os": "linux", "created": "2020-09-13T12:26:40Z", "config": run,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha256(l) for l in layers]},
    }).encode()


class Archive:
    def __init__(self, path):
        self.tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)

    def data(self, name, data):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self.tar.addfile(info, io.BytesIO(data))

    def file(self, name, path):
        info = tarfile.TarInfo(name)
        info.size = os.path.getsize(path)
        with open(path, "rb") as f:
            self.tar.addfile(info, f)

    def blob(self, media_type, data, **more):
        digest = hashlib.sha256(data).hexdigest()
        self.data("blobs/sha256/" + digest, data)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data), **more}


def docker(tag, path, layers, run=RUN):
    archive, cfg = Archive(path), config(layers, run=run)
    name = hashlib.sha256(cfg).hexdigest() + ".json"
    archive.data(name, cfg)
    members = []
    for layer in layers:
        members.append(sha256(layer) + "/layer.tar")
        archive.file(members[-1], layer)
    archive.data("manifest.json", json.dumps([{"Config": name, "RepoTags": [tag], "Layers": members}]).encode())
    archive.tar.close()


def oci(codec, tag, path, layers):
    archive = Archive(path)
    base = "application/vnd.oci.image."
    suffix = {"gzip": ".gz", "zstd": ".zst"}[codec]

    def manifest(arch, layers, stored):
        blobs = []
        for blob in stored:
            digest = sha256(blob)
            archive.file("blobs/sha256/" + digest, blob)
            blobs.append({"mediaType": base + "layer.v1.tar+" + codec, "digest": "sha256:" + digest, "size": os.path.getsize(blob)})
        doc = {"schemaVersion": 2, "mediaType": base + "manifest.v1+json",
               "config": archive.blob(base + "config.v1+json", config(layers, arch)), "layers": blobs}
        return archive.blob(base + "manifest.v1+json", json.dumps(doc).encode(), platform={"os": "linux", "architecture": arch})

    entries = [manifest("s390x", [], []), manifest("amd64", layers, [layer + suffix for layer in layers])]
    index = json.dumps({"schemaVersion": 2, "mediaType": base + "index.v1+json", "manifests": entries}).encode()
    top = archive.blob(base + "index.v1+json", index, annotations={"org.opencontainers.image.ref.name": tag})
    archive.data("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    archive.data("index.json", json.dumps({"schemaVersion": 2, "manifests": [top]}).encode())
    archive.tar.close()


def changes(path):
    archive = Archive(path)
    archive.data("etc/motd", b"changed by the second layer\n")
    archive.data("usr/share/.wh.common-licenses", b"")
    archive.data("var/lib/dpkg/info/.wh..wh..opq", b"")
    archive.data("var/lib/dpkg/info/only", b"opaque\n")
    link = tarfile.TarInfo("usr/local/bin/py")
    link.type, link.linkname = tarfile.SYMTYPE, "../../bin/python3"
    archive.tar.addfile(link)
    archive.tar.close()


def main(args):
    if args[0] == "--changes":
        changes(args[1])
    elif args[0] == "--oci":
        oci(args[1], args[2], os.path.join(args[3], args[4] + ".tar"), args[5:])
    else:
        docker(args[0], os.path.join(args[1], args[2] + ".tar"), args[3:])


if __name__ == "__main__":
    main(sys.argv[1:])
