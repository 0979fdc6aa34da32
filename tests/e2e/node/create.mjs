// create.mjs: what may be said of a sandbox when it is made. It stays when this program
// ends; the other scripts connect to it.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { Image, InvalidConfigError, MiB, NetworkPolicy, Sandbox, SandboxAlreadyExistsError, Volume } from "microsandbox";

const { IMAGES, SHARED, PUBLISHED, KEY } = process.env;
writeFileSync(`${SHARED}/from-host`, "host\n");

assert.deepEqual((await Image.load(IMAGES)).map((image) => image.reference), ["mini:latest"]);
assert.deepEqual((await Image.list()).map((image) => [image.reference, image.layerCount]), [["mini:latest", 1]]);

const volume = await Volume.builder("docs").quota(MiB(100)).label("kind", "docs").create();
assert.equal(volume.name, "docs");

const policy = NetworkPolicy.builder()
  .defaultDeny()
  .egress((rule) => rule.tcp().ports([80, 443]).allowHost())
  .ingress((rule) => rule.allow((to) => to.any()))
  .build();

const build = () => Sandbox.builder("docs")
  .image("mini")
  .cpus(1)
  .memory(MiB(256))
  .rootDisk(MiB(256))
  .detached(true)
  .pullPolicy("never")
  .hostname("documented")
  .workdir("/app")
  .user("root")
  .env("GREETING", "hello")
  .envs({ ONE: "1", TWO: "two words" })
  .label("suite", "node")
  .rlimit("nofile", 4096)
  .script("greet", "#!/bin/sh\necho \"$GREETING, $1\"\n")
  .metricsSampleIntervalMs(200)
  .patch((patch) => patch
    .text("/etc/greeting.txt", "Hello!\n")
    .mkdir("/app", { mode: 0o755 })
    .text("/app/config.json", '{"debug": true}', { mode: 0o640 })
    .file("/app/bytes", Buffer.from([0, 255, 10]))
    .symlink("/etc/greeting.txt", "/app/link")
    .append("/etc/passwd", "extra:x:1234:1234::/:/bin/sh\n"))
  .volume("/data", (mount) => mount.named("docs"))
  .volume("/shared", (mount) => mount.bind(SHARED))
  .volume("/scratch", (mount) => mount.tmpfs().size(MiB(8)))
  .network((network) => network
    .policy(policy)
    .tls((tls) => tls.interceptedPorts([443]).verifyUpstream(false)))
  .port(Number(PUBLISHED), 8080)
  .secretEnv("KEY", KEY, "host.microsandbox.internal");

const sandbox = await build().create();
assert.equal(sandbox.name, "docs");
const look = await sandbox.shell(`hostname; pwd; echo $ONE $TWO; greet world; ulimit -n; cat link; id -un
wc -c < bytes; stat -c %a config.json; tail -n1 /etc/passwd; cat /shared/from-host
df -m /scratch | awk 'NR==2 {print $2}'; echo "$KEY"; echo from guest > /shared/from-guest; echo kept > /data/note`);
assert.equal(look.stderr(), "");
assert.deepEqual(look.stdout().trim().split("\n"), ["documented", "/app", "1 two words", "hello, world", "4096", "Hello!", "root",
  "3", "640", "extra:x:1234:1234::/:/bin/sh", "host", "8", "$MSB_KEY"]);

await assert.rejects(build().create(), SandboxAlreadyExistsError);
await assert.rejects(Sandbox.builder("no/name").image("mini").create(), InvalidConfigError);

const handle = await Sandbox.get("docs");
assert.equal(handle.status, "running");
assert.equal(handle.id, sandbox.id);
assert.deepEqual((await Sandbox.list()).sandboxes.map((s) => s.name), ["docs"]);
await sandbox.detach();
