// network.mjs: a server in the guest, at a published port.
import assert from "node:assert/strict";
import { Sandbox } from "microsandbox";

const { PUBLISHED } = process.env;
const sandbox = await (await Sandbox.get("docs")).connect();

const server = await sandbox.execStream("sh", ["-c", "mkdir -p /www; echo published > /www/index.html; exec httpd -f -p 8080 -h /www"]);
let page, reason;
for (let i = 0; i < 30 && page === undefined; i++) {
  page = await fetch(`http://127.0.0.1:${PUBLISHED}/`).then((r) => r.text(), (e) => void (reason = e.cause));
  if (page === undefined) await sandbox.exec("sleep", ["0.2"]);
}
assert.equal(page, "published\n", reason);
await server.kill();
