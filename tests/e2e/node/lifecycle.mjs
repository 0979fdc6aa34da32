// lifecycle.mjs: stop, start, snapshots, ends of all kinds, and clean-up.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { NetworkPolicy, Sandbox, SandboxNotFoundError, SandboxStillRunningError, Snapshot, Volume } from "microsandbox";

// runtimes are the processes that run the sandbox.
const runtimes = () => readdirSync("/proc").filter((entry) => {
  try {
    return readFileSync(`/proc/${entry}/cmdline`, "utf8").includes("\0sandbox\0--name\0docs\0");
  } catch {
    return false; // no process, or one that has ended
  }
}).map(Number);

let handle = await Sandbox.get("docs");
await assert.rejects(handle.remove(), SandboxStillRunningError);
const sandbox = await handle.connect();
await sandbox.shell("echo persists > /persistent; sync");
await sandbox.stop();
handle = await handle.waitForStatus("stopped");
const ended = await handle.waitUntilStopped();
assert.equal(ended.status, "stopped");
assert.ok((await handle.logs({ sources: ["system"] })).some((e) => e.text().includes("sandbox stopped")));

// A snapshot, saved and loaded, and a sandbox that starts from it.
const snapshot = await Snapshot.builder("base").fromSandbox("docs").label("suite", "node").recordIntegrity().create();
assert.equal((await snapshot.verify()).upper.kind, "verified");
assert.deepEqual((await Snapshot.list()).map((s) => s.name), ["base"]);
await Snapshot.save("base", "base.tar.zst");
assert.ok(existsSync("base.tar.zst"));
await Snapshot.remove("base");
const loaded = await Snapshot.load("base.tar.zst");
const branch = await Sandbox.builder("branch")
  .fromSnapshot(loaded.name ?? loaded.path)
  .ephemeral(true)
  .idleTimeout(10)
  .network((network) => network.policy(NetworkPolicy.none()))
  .create();
assert.equal((await branch.exec("cat", ["/persistent"])).stdout(), "persists\n");
assert.equal((await branch.shell("wget -q -T 5 -O - http://192.0.2.1/")).code === 0, false);

// Nobody asks anything of it any more: it ends and leaves nothing.
const idle = await branch.waitUntilStopped();
assert.equal(idle.status, "stopped");
for (let i = 0; i < 600; i++) {
  if (await Sandbox.get("branch").then(() => false, (e) => e instanceof SandboxNotFoundError)) break;
  await new Promise((again) => setTimeout(again, 50));
}
await assert.rejects(Sandbox.get("branch"), SandboxNotFoundError);
assert.equal(existsSync(`${process.env.MSB_HOME}/sandboxes/branch`), false);
await loaded.remove();

// The first one once more, whose runtime dies; then again, and it is killed.
const again = await handle.startDetached();
assert.equal((await again.exec("cat", ["/persistent"])).stdout(), "persists\n");
const [pid] = runtimes();
process.kill(pid, "SIGKILL");
handle = await (await Sandbox.get("docs")).waitForStatus("crashed");
const recovered = await handle.startDetached();
assert.equal((await recovered.shell("cat /persistent; cat /data/note")).stdout(), "persists\nkept\n");
await recovered.kill();
handle = await (await Sandbox.get("docs")).refresh();
assert.ok(["stopped", "crashed"].includes(handle.status), handle.status);

await handle.destroy({ force: true });
await assert.rejects(Sandbox.get("docs"), SandboxNotFoundError);
await Volume.remove("docs");
assert.deepEqual(await Volume.list(), []);
assert.deepEqual(runtimes(), []);
