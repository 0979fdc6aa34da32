// observe.mjs: logs, metrics, health, and a modification while the sandbox runs.
import assert from "node:assert/strict";
import { allSandboxMetrics, Sandbox } from "microsandbox";

const sandbox = await (await Sandbox.get("docs")).connect();
const mark = `mark-${process.pid}`;
await sandbox.shell(`echo out-${mark}; echo err-${mark} >&2`);

let logs = [];
for (let i = 0; i < 20 && logs.length < 2; i++) {
  logs = (await sandbox.logs({ tail: 100 })).filter((e) => e.text().includes(mark));
  if (logs.length < 2) await sandbox.exec("true");
}
assert.deepEqual(logs.map((e) => [e.source, e.text()]).sort(), [["stderr", `err-${mark}\n`], ["stdout", `out-${mark}\n`]]);
assert.ok(logs[0].sessionId > 0 && logs[0].sessionId === logs[1].sessionId);
assert.ok((await sandbox.logs({ sources: ["system"] })).some((e) => e.text().includes("sandbox started")));
assert.deepEqual(await sandbox.logs({ since: new Date(Date.now() + 3_600_000) }), []);

const follower = await sandbox.logStream({ follow: true, fromCursor: logs.at(-1).cursor });
await sandbox.exec("echo", ["later"]);
for await (const entry of follower) {
  if (entry.text() === "later\n") break;
}

const metrics = await sandbox.metrics();
assert.equal(metrics.memoryLimitBytes, 256 << 20);
assert.ok(metrics.memoryBytes > 0 && metrics.memoryBytes < metrics.memoryLimitBytes, `memory ${metrics.memoryBytes}`);
assert.ok(metrics.memoryHostResidentBytes > 0);
assert.ok(metrics.vcpuTimeNs > 0 && metrics.diskReadBytes > 0 && metrics.uptimeMs > 0, JSON.stringify(metrics));
assert.ok(metrics.netRxBytes >= 0 && metrics.cpuPercent >= 0);
let samples = 0;
for await (const sample of await sandbox.metricsStream(300)) {
  assert.ok(sample.timestamp >= metrics.timestamp);
  if (++samples === 3) break;
}
assert.deepEqual(Object.keys(await allSandboxMetrics()), ["docs"]);

const ping = await sandbox.ping();
assert.ok(ping.name === "docs" && ping.latencyMs >= 0);
const [first, second] = [await sandbox.touch(), await sandbox.touch()];
assert.ok(second.activitySeq > first.activitySeq);

const plan = await sandbox.modify({ env: { ADDED: "1" }, labels: { more: "yes" }, dryRun: true });
assert.equal(plan.applied, false);
assert.deepEqual(plan.changes.map((c) => [c.field, c.change]), [["env", "added"], ["label", "added"]]);
const applied = await sandbox.modify({ secrets: { KEY: { value: "rotated-value" } } });
assert.equal(applied.applied, true);
assert.deepEqual(applied.changes.map((c) => [c.name, c.change, c.disposition]), [["KEY", "rotated", "live"]]);
