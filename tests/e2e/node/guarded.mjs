// guarded.mjs: a policy, intercepted TLS and a secret, among servers that note what they are sent.
import assert from "node:assert/strict";
import { NetworkPolicy, Sandbox, SandboxNotFoundError } from "microsandbox";

const { TRUSTED, KEY, ROTATED, WEB } = process.env;

const policy = NetworkPolicy.builder()
  .defaultDeny()
  .egress((rule) => rule.udp().tcp().port(53).allowHost())
  .egress((rule) => rule.tcp().ports([80, 443]).allowDomains(["bad.test"]).allowDomainSuffix("good.test"))
  .build();
const sandbox = await Sandbox.builder("guarded")
  .image("debian")
  .ephemeral(true)
  .pullPolicy("never")
  .network((network) => network
    .policy(policy)
    .dns((dns) => dns.nameservers(["127.0.0.1"]))
    .tls((tls) => tls.interceptedPorts([443]).verifyUpstream(true).upstreamCaCert(TRUSTED).bypass("v4.good.test"))
    .onSecretViolation((action) => action.blockAndLog()))
  .secret((secret) => secret.env("KEY").value(KEY).allowHost("www.good.test").injectQuery(true).injectBody(true))
  .create();

const curl = (args) => sandbox.shell(`curl -4 -sS --max-time 200 ${args}`);
const succeeds = async (args) => {
  const out = await curl(args);
  assert.deepEqual([out.code, out.stdout()], [0, "ok\n"], `${args}: ${out.stderr()}`);
};
const fails = async (args) => {
  const out = await curl(args);
  assert.notEqual(out.code, 0, args);
  return out.stderr();
};

// The guest has a placeholder, its server the value.
assert.equal((await sandbox.shell("echo $KEY")).stdout(), "$MSB_KEY\n");
await succeeds(`-H "X-Key: Bearer $KEY" -u "me:$KEY" -d "b=$KEY" "https://www.good.test/p?k=$KEY"`);
await fails(`-H "X-Key: $KEY" https://bad.test/`);
assert.ok((await sandbox.logs({ sources: ["system"] })).some((e) => e.text().includes("secret violation")));
await succeeds("https://bad.test/");

// Without interception the server shows its own certificate, and gets the placeholder.
assert.match(await fails("https://v4.good.test/"), /certificate/);
await succeeds(`-k -H "X-Key: $KEY" https://v4.good.test/`);

// What the policy does not name is out of reach.
await fails("http://10.9.0.1/");
await fails("https://hidden.test/");
await fails(`http://www.good.test:${WEB}/`);

const applied = await sandbox.modify({ secrets: { KEY: { value: ROTATED } } });
assert.equal(applied.applied, true);
await succeeds(`-H "X-Key: $KEY" https://www.good.test/`);

await sandbox.stop();
for (let i = 0; i < 600; i++) {
  if (await Sandbox.get("guarded").then(() => false, (e) => e instanceof SandboxNotFoundError)) break;
  await new Promise((again) => setTimeout(again, 50));
}
await assert.rejects(Sandbox.get("guarded"), SandboxNotFoundError);
