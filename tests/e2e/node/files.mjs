// files.mjs: files of the guest, whole and streamed, and files of a volume from outside.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { Sandbox, SandboxFsOpsError, Volume } from "microsandbox";

const sandbox = await (await Sandbox.get("docs")).connect();
const fs = sandbox.fs();
const here = mkdtempSync("files-");

await fs.mkdir("/work");
await fs.write("/work/text", "some text");
assert.equal(await fs.readToString("/work/text"), "some text");
const random = Buffer.from(Array.from({ length: 100_000 }, (_, i) => (i * 7919) >> 3 & 255));
await fs.write("/work/bytes", random);
assert.deepEqual(Buffer.from(await fs.read("/work/bytes")), random);

const meta = await fs.stat("/work/text");
assert.deepEqual([meta.kind, meta.size, meta.readonly], ["file", 9, false]);
assert.equal((await fs.stat("/work")).kind, "directory");
assert.deepEqual([await fs.exists("/work/text"), await fs.exists("/work/none")], [true, false]);
await fs.copy("/work/text", "/work/copy");
await fs.rename("/work/copy", "/work/renamed");
const entries = await fs.list("/work");
assert.deepEqual(entries.map((e) => [e.path, e.kind, e.size]).sort(), [["/work/bytes", "file", 100_000], ["/work/renamed", "file", 9], ["/work/text", "file", 9]]);

const sink = await fs.writeStream("/work/streamed");
for (let i = 0; i < 5; i++) await sink.write(Buffer.alloc(1_000_000, i));
await sink.close();
let total = 0;
for await (const chunk of await fs.readStream("/work/streamed")) total += chunk.length;
assert.equal(total, 5_000_000);
assert.equal((await fs.stat("/work/streamed")).size, 5_000_000);

writeFileSync(`${here}/up`, random);
await fs.copyFromHost(`${here}/up`, "/work/up");
await fs.copyToHost("/work/up", `${here}/down`);
assert.deepEqual(readFileSync(`${here}/down`), random);

await fs.remove("/work/text");
await fs.removeDir("/work");
assert.equal(await fs.exists("/work"), false);
await assert.rejects(fs.read("/none"), SandboxFsOpsError);
await assert.rejects(fs.list("/none"), SandboxFsOpsError);

const volume = await Volume.get("docs");
assert.deepEqual([volume.kind, volume.quotaMib, volume.labels], ["dir", 100, [["kind", "docs"]]]);
assert.equal(await volume.fs().readToString("note"), "kept\n");
await volume.fs().write("outside", "from outside\n");
assert.equal((await sandbox.exec("cat", ["/data/outside"])).stdout(), "from outside\n");
assert.equal(readFileSync(`${process.env.SHARED}/from-guest`, "utf8"), "from guest\n");
await assert.rejects(volume.remove());
