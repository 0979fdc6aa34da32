// exec.mjs: commands, collected and streamed, their input, signals, limits and failures.
import assert from "node:assert/strict";
import { ExecTimeoutError, Sandbox } from "microsandbox";

const sandbox = await (await Sandbox.get("docs")).connect();

const result = await sandbox.exec("echo", ["one", "two words"]);
assert.deepEqual([result.code, result.success, result.stdout(), result.stderr()], [0, true, "one two words\n", ""]);
const failed = await sandbox.shell("echo out; echo err >&2; exit 42");
assert.deepEqual([failed.code, failed.success, failed.stdout(), failed.stderr()], [42, false, "out\n", "err\n"]);
const bytes = await sandbox.exec("printf", ["\\0\\377\\n"]);
assert.deepEqual([...bytes.stdoutBytes()], [0, 255, 10]);

const configured = await sandbox.execWith("sh", (exec) => exec
  .args(["-c", "pwd; echo $NAME; id -u; ulimit -n; cat"])
  .cwd("/tmp").env("NAME", "v").user("guest").rlimit("nofile", 100).stdinBytes(Buffer.from("given")));
assert.equal(configured.stdout(), "/tmp\nv\n1000\n100\ngiven");

const stream = await sandbox.execStream("sh", ["-c", "echo a; echo b >&2; exit 3"]);
const kinds = {};
for await (const event of stream) {
  kinds[event.kind] = event.data ? (kinds[event.kind] ?? "") + Buffer.from(event.data) : (event.code ?? event.pid);
  if (event.kind === "exited") break;
}
assert.ok(kinds.started > 1);
assert.deepEqual([kinds.stdout, kinds.stderr, kinds.exited], ["a\n", "b\n", 3]);

const cat = await sandbox.execStreamWith("cat", (exec) => exec.stdinPipe());
const sink = await cat.takeStdin();
await sink.write("first ");
await sink.write(Buffer.alloc(300_000, "x"));
await sink.close();
const echoed = await cat.collect();
assert.equal(echoed.stdout().length, 6 + 300_000);

// Input that a command does not take holds up nothing else.
const deaf = await sandbox.execStreamWith("sleep", (exec) => exec.arg("1000").stdinPipe());
const unread = await deaf.takeStdin();
for (let i = 0; i < 19; i++) await unread.write(Buffer.alloc(256 << 10));
assert.equal((await sandbox.exec("echo", ["fine"])).stdout(), "fine\n");
await deaf.kill();
assert.equal((await deaf.wait()).success, false);

const trap = await sandbox.execStream("sh", ["-c", "trap 'echo got; exit 7' USR1; echo ready; while :; do sleep 0.1; done"]);
let text = "";
while (!text.includes("ready")) text += Buffer.from((await trap.recv()).data ?? "");
await trap.signal(10);
assert.equal((await trap.wait()).code, 7);
const sleeper = await sandbox.execStream("sleep", ["1000"]);
await sleeper.kill();
assert.equal((await sleeper.wait()).success, false);

const tty = await sandbox.execStreamWith("sh", (exec) => exec.args(["-c", "echo on; read x; stty size"]).tty(true).stdinPipe());
text = "";
while (!text.includes("on\r\n")) text += Buffer.from((await tty.recv()).data ?? "");
await tty.resize(33, 101);
const keys = await tty.takeStdin();
await keys.write("go\n");
assert.match((await tty.collect()).stdout(), /33 101\r\n$/);

await assert.rejects(sandbox.execWith("sleep", (exec) => exec.arg("1000").timeout(500)), ExecTimeoutError);
await assert.rejects(sandbox.exec("/no/such/program"), /no such|not found/i);
assert.equal((await sandbox.execDefaultWith((exec) => exec.stdinBytes(Buffer.from("echo default $0")))).code, 0);

const many = await Promise.all(Array.from({ length: 8 }, (_, i) => sandbox.exec("echo", [String(i)])));
assert.deepEqual(many.map((o) => o.stdout()), Array.from({ length: 8 }, (_, i) => `${i}\n`));
