// attach.mjs: a shell on this program's terminal, which is left by the detach keys and by exit.
import { Sandbox } from "microsandbox";

const sandbox = await (await Sandbox.get("docs")).connect();
console.log("code", await sandbox.attachShell());
console.log("code", await sandbox.attachWith("sh", (attach) => attach.args(["-c", "echo $NAME; sleep 1000"]).env("NAME", "attached").detachKeys("ctrl-q")));
