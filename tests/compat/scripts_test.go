//go:build official

package compat

import "strings"

// nativeScripts boot nothing.
var nativeScripts = []Script{
	{"usage", []string{
		"msb run --nosuch",
		"msb nosuch",
		"msb volume nosuch",
		"msb help nosuch",
		"msb run --cpus x mini",
		"msb run --cpus",
		"msb run a b",
		"msb run --thp x a",
		"msb run --pull x a",
		"msb run --security x a",
		"msb run --log-level x a",
		"msb run --error --debug a",
		"msb run --init-arg x a",
		"msb run --from-snapshot a b",
		"msb run -t --no-tty a",
		"msb run --net public --no-net a",
		"msb run --deployment-profile x a",
		"msb create a -- b",
		"msb create a b",
		"msb exec",
		"msb exec a ls",
		"msb exec a --tty --no-tty -- ls",
		"msb exec a --stream -t -- ls",
		"msb ls x",
		"msb ls --format yaml",
		"msb ps a b",
		"msb ps a --all",
		"msb ps a --label b",
		"msb start",
		"msb stop",
		"msb stop -t x a",
		"msb restart",
		"msb rm",
		"msb ping",
		"msb touch",
		"msb logs",
		"msb logs a --source x",
		"msb logs a --color x",
		"msb logs a --color auto --no-color",
		"msb logs a --tail x",
		"msb inspect",
		"msb copy a",
		"msb copy",
		"msb image inspect",
		"msb image rm",
		"msb rmi",
		"msb image pull",
		"msb pull --materialize x a",
		"msb save",
		"msb save --format x a",
		"msb registry login",
		"msb registry login host",
		"msb registry logout",
		"msb volume inspect",
		"msb volume rm",
		"msb volume create --kind x v",
		"msb volume create a b",
		"msb snapshot create",
		"msb snapshot create x",
		"msb snapshot inspect",
		"msb snapshot verify",
		"msb snapshot rm",
		"msb snapshot save a",
		"msb snapshot load",
		"msb metrics --watch --follow",
		"msb metrics --sort x",
		"msb uninstall",
		"msb completion",
		"msb completion tcsh",
		"msb metrics a b",
		"msb create --net-conf c.yaml --net-rule deny@x.com a",
	}},
	{"values", []string{
		"msb run --memory 1T a",
		"msb run --memory 0 a",
		"msb run --cpus 0 a",
		"msb run --max-cpus 1 --cpus 2 a",
		"msb run --max-memory 1M --memory 2M a",
		"msb create -e MSB_X=1 a",
		"msb create --label =x a",
		"msb create --label service.a=1 a",
		"msb create -p x a",
		"msb create -p 1:2/x a",
		"msb create -p 70000:2 a",
		"msb create -v x a",
		"msb create -v x:/y:zz a",
		"msb create --pull never -v ./nosuch:/y a",
		"msb create --tmpfs x a",
		"msb create --net x a",
		"msb create --net-rule x a",
		"msb create --net-default x a",
		"msb create --net-egress-ops-burst 5 a",
		"msb create --secret A=b@c a",
		"msb create --secret A a",
		"msb create --pull never --secret GOMSB_NOT_SET@host a",
		"msb create --on-secret-violation x a",
		"msb create --pull never --dns-nameserver x a",
		"msb create --vsock x a",
		"msb create --proxy x a",
		"msb create --script x a",
		"msb create --copy x a",
		"msb create --root-disk x a",
		"msb create --root-disk 0 a",
		"msb create --name -x a",
		"msb create --pull never --name '' a",
		"msb create --name $(printf 'a%.0s' $(seq 129)) a",
		"msb create --hostname $(printf 'a%.0s' $(seq 65)) a",
		"msb create --pull never --user '' a",
		"msb create --max-duration 1d a",
		"msb create --replace-with-timeout x a",
		"msb create --tls-intercept-port x a",
		"msb create",
		"msb run",
		"msb create --pull never alpine",
		"msb create --pull never AB",
		"msb exec a --timeout 1d -- ls",
		"msb exec a --rlimit x -- ls",
		"msb exec a --rlimit nofile=2:1 -- ls",
		"msb exec a -e GOMSB_NOT_SET -- ls",
		"msb run --pull never -d --timeout 1s a",
		"msb volume create",
		"msb volume create -- -x",
		"msb volume create --size 1G v",
		"msb volume create --kind disk v",
		"msb volume create --size x v",
		"msb logs a --since zz",
		"msb logs a --grep '('",
		"msb metrics --watch",
		"msb metrics --interval 0",
		"msb metrics --interval x --follow",
		"msb image prune",
		"msb copy a b",
		"msb copy a:b c",
	}},
	{"missing", []string{
		"msb start nosuch",
		"msb stop nosuch",
		"msb stop -q nosuch",
		"msb restart nosuch",
		"msb rm nosuch other",
		"msb rm -q nosuch",
		"msb ping nosuch",
		"msb touch nosuch",
		"msb exec nosuch -- ls",
		"msb logs nosuch",
		"msb inspect nosuch",
		"msb status nosuch",
		"msb metrics nosuch",
		"msb copy nosuch:/a b",
		"msb image inspect nosuch",
		"msb image rm nosuch other",
		"msb save nosuch",
		"msb load -i /nonexistent/image.tar",
		"msb volume inspect nosuch",
		"msb volume rm nosuch other",
		"msb snapshot inspect nosuch",
		"msb snapshot verify nosuch",
		"msb snapshot rm nosuch",
		"msb snapshot create x --from nosuch",
		"msb snapshot create x --from nosuch --resumable",
		"msb snapshot save nosuch out.tar",
		"msb snapshot load nosuch",
		"msb snapshot reindex nosuch",
		"msb create --from-snapshot nosuch",
		"msb uninstall nosuch",
		"msb stop --label a=b",
		"msb ping --label a=b",
		"msb registry logout host",
		"msb rm --label a=b -q",
		"msb exec a --conf nosuch -- ls",
	}},
	{"empty", []string{
		"msb ls", "msb ls -q", "msb ls --format json", "msb ls --running", "msb ls --stopped",
		"msb ps", "msb ps -a", "msb ps -q", "msb ps --format json",
		"msb metrics", "msb metrics --format json", "msb metrics -a",
		"msb image ls", "msb images", "msb image ls -q", "msb image ls --format json", "msb image prune -y", "msb image prune -y --format json", "msb image prune -y -q",
		"msb volume ls", "msb volumes", "msb vols", "msb vol ls -q", "msb volume ls --format json",
		"msb snapshot ls", "msb snapshots", "msb snaps -q", "msb snap ls --format json", "msb snapshot reindex",
		"msb registry list", "msb registries", "msb regs",
		"msb install --list",
		"msb context", "msb ctx --format json",
		"msb --version", "msb -V",
	}},
	{"volumes", []string{
		"msb volume create data",
		"msb volume create data",
		"msb volume create --name -q",
		"msb volume create --name two -q",
		"msb volume create big --kind disk --size 256M",
		"msb volume ls",
		"msb volume ls -q",
		"msb volume ls --format json",
		"msb volume inspect data",
		"msb volume inspect big",
		"msb volume rm data nosuch",
		"msb volume rm -q two",
		"msb volume ls -q",
	}},
	{"images", []string{
		"msb load -i $IMAGE",
		"msb load -i $IMAGE -t other:v1",
		"msb load -q -i $IMAGE",
		"msb image ls",
		"msb image ls -q",
		"msb image ls --format json",
		"msb image inspect mini:latest",
		"msb image inspect mini:latest --format json",
		"msb image inspect other:v1 --format json",
		"msb save mini -o mini.tar; tar tf mini.tar | sed 's/[0-9a-f]\\{64\\}/DIGEST/g'",
		"msb save mini --format oci -o oci.tar; tar tf oci.tar | sed 's/[0-9a-f]\\{64\\}/DIGEST/g' | sort",
		"msb save mini other:v1 | tar t | sed 's/[0-9a-f]\\{64\\}/DIGEST/g' | sort -u",
		"msb image rm other:v1",
		"msb image prune -y",
		"msb image prune -y --format json",
		"msb image rm -q mini nosuch",
		"msb image ls",
		"msb load < mini.tar",
		"msb load < /dev/null",
		"msb install -n tool --no-pull mini",
		"msb install -n tool --no-pull mini",
		"msb install -f -n tool --no-pull mini -- ls",
		"msb install --tmp --no-pull mini",
		"msb install --list",
		"cat $MSB_HOME/bin/tool",
		"msb uninstall tool nosuch",
		"msb install --list",
	}},
	{"configuration", configurationSteps()},
	{"logs", logSteps()},
	{"backend", []string{
		`echo '{"active_profile":"p","profiles":{"p":{"backend":"cloud","api_key_ref":"env:TOK","url":"https://p"},"q":{"backend":"cloud","api_key_ref":"inline:x"},"l":{"backend":"local"}}}' >c.json`,
		"MSB_BACKEND=cloud msb context",
		"MSB_BACKEND=x msb ls",
		"MSB_BACKEND=cloud MSB_API_KEY=k msb context",
		"MSB_BACKEND=cloud MSB_API_KEY=k MSB_API_URL=https://x.y/z msb context --format json",
		"MSB_API_KEY=k MSB_API_URL=https://x.y/z msb context --format json",
		"TOK=t MSB_CONFIG_PATH=c.json msb context --format json",
		"MSB_CONFIG_PATH=c.json msb ls",
		"MSB_PROFILE=q MSB_CONFIG_PATH=c.json msb context --format json",
		"MSB_PROFILE=l MSB_CONFIG_PATH=c.json msb context --format json",
		"MSB_PROFILE=nosuch MSB_CONFIG_PATH=c.json msb context",
		"TOK=t MSB_BACKEND=cloud MSB_CONFIG_PATH=c.json msb context --format json",
		"MSB_BACKEND=cloud MSB_PROFILE=l MSB_CONFIG_PATH=c.json msb context --format json",
		"MSB_BACKEND=local MSB_PROFILE=q MSB_CONFIG_PATH=c.json msb context --format json",
	}},
}

// exampleLog is an exec.log.
const exampleLog = `{"t":"2026-11-24T00:02:10.719Z","s":"system","d":"--- sandbox started ---\n"}
{"t":"2026-11-24T00:02:15.999Z","s":"stdout","d":"hello\n","id":1}
{"t":"2026-11-24T00:02:16.078Z","s":"stderr","d":"err\n","id":2}
{"t":"2026-11-24T00:02:16.100Z","s":"stdout","d":"one\ntwo\n","id":2}
{"t":"2026-11-24T00:02:16.311Z","s":"stdout","d":"\u001b[31mred\u001b[0m\n","id":7}
{"t":"2026-11-24T00:02:16.369Z","s":"output","d":"/dev/pts/0\r\n","id":8}
{"t":"2026-11-24T00:02:16.376Z","s":"output","d":"linux\r\n","id":8}
`

// logSteps print logs of a sandbox that never ran.
func logSteps() []string {
	const logs = "$MSB_HOME/sandboxes/a/logs"
	steps := []string{"mkdir root; MSB_PATH=/bin/false msb create -q --name a $PWD/root >/dev/null 2>&1; mkdir -p " + logs + "; rm -f " + logs + "/boot-error.json\n" +
		"printf 'runtime\\n' >" + logs + "/runtime.log; printf 'kernel\\n' >" + logs + "/kernel.log; cat >" + logs + "/exec.log <<'END'\n" + exampleLog + "END"}
	for _, flags := range []string{
		"", "--json", "--tail 2", "--tail 0", "--timestamps", "--show-id", "--timestamps --show-id", "--source stdout", "--source stderr,output", "--source system", "--source all",
		"--source all --json", "--source all --show-id --timestamps", "--since 2026-11-24T00:02:16.100Z", "--until 2026-11-24T00:02:16.100Z", "--since 1s", "--since 1000d --tail 1",
		"--since 2026-11-24T00:02:16.300Z --until 2026-11-24T00:02:16.369Z --json", "--grep err", "--grep e --tail 1", "--grep ^h --json", "--color always", "--color never", "--no-color",
		"--color-sessions", "--source stdout --source stderr", "--tail 1 --source all",
	} {
		steps = append(steps, "msb logs a "+flags)
	}
	return append(steps,
		"unset NO_COLOR; msb logs a --color always", "unset NO_COLOR; msb logs a --color always --color-sessions", "unset NO_COLOR; msb logs a --color always --color-sessions --timestamps --source all",
		`printf '{"t":"2026-11-24T00:02:15.101Z","stage":"config","errno":2,"message":"no file"}' >`+logs+"/boot-error.json; msb logs a", "msb logs a --json --tail 0", "msb rm -q a")
}

// tryScript creates a sandbox with flags and a configuration file, and shows what it would
// run with: no runtime starts.
const tryScript = `#!/bin/sh
echo "$1" >c.yaml; shift
FOO=foo TOK=tok PW=pw MSB_PATH=/bin/false "$MSB" create -q --name a "$@" >out 2>&1
echo $?
grep -v "libkrunfw\|startup info\|did not start\|failed to start\|full diagnostics" out
"$MSB" inspect a --format json 2>/dev/null
"$MSB" rm -q a
`

// configurationSteps read configuration files.
func configurationSteps() []string {
	steps := []string{"mkdir root sub; touch hostfile; truncate -s 1M disk.raw; printf 'patches: [{remove: {path: /x}}]' >p.yaml; printf 'strict: true' >strict.yaml\n" +
		"cat >try <<'END'\n" + tryScript + "END\nchmod +x try"}
	file := func(flags, yaml string) { steps = append(steps, "./try '"+yaml+"' "+flags) }
	root := " $PWD/root"
	for _, yaml := range []string{
		"{cpus: 2, memory: 1G, max_duration: 10m, idle_timeout: \"30\", rlimits: [{resource: nofile, soft: 10, hard: 20}, {resource: core, soft: 0}]}",
		"{workdir: /w, shell: bash, user: \"1000:1000\", hostname: hh, security: restricted, entrypoint: [/bin/e, x], cmd: [a, b]}",
		"{env: {B: \"2\", A: \"x${FOO}y\", C: \"$FOO $$\"}, labels: {team: z}, init: {cmd: auto, args: [a], env: {K: v}}}",
		"{entrypoint: [], cmd: [], workdir: null}",
		"{ports: [\"8080:80\", \"127.0.0.1:53:53/udp\"], network: {ports: [\"90:90\"]}}",
		"{scripts: {hi: \"echo hi\\n\", there: x}, pull_policy: always, registry: {username: a, password_env: PW}}",
		"network: none", "network: public", "network: open",
		"network: {allow: [\"example.com:tcp:443\", \"*.pypi.org\", .npmjs.org, \"10.0.0.0/8:udp\", public, dns], deny: [10.0.0.1]}",
		"network: {policy: open, deny: [example.com], tls: {bypass: [\"*.x.com\"], block_quic: false}}",
		"network: {policy: none, dns: {rebind_protection: false, nameservers: [\"1.1.1.1:53\"], query_timeout: 3s}, strict: true, trust_host_cas: true, max_connections: 10, tls: {enabled: true, verify_upstream: false}}",
		"{secrets: {TOK: {allow: [a.com, \"*.b.com\"]}, OTHER: {value: \"${TOK}\", allow: [c.com], inject: [basic_auth, query_params], require_tls_identity: false}}, network: {policy: none}}",
		"{mounts: [{tmpfs: {size: 64M}, target: /f}, {tmpfs: {}, target: /g, readonly: true, noexec: true, nosuid: true, nodev: true}, {disk: disk.raw, target: /h, fstype: ext4}]}",
		"{mounts: [sub:/a, \"hostfile:/b:ro\", {bind: sub, target: /c, uid: 5, gid: 6, stat_virtualization: relaxed, host_permissions: mirror}]}",
		"{patch_files: [p.yaml], patches: [{text: {path: /a, content: hi, mode: \"0600\", replace: true}}, {file: {path: /b, content_base64: gAA=}}, {copy_file: {src: hostfile, dst: /c}}, {mkdir: {path: /m, mode: \"0700\"}}]}",
		// mistakes
		"zzz: 1", "cpus: x", "cpus: 300", "memory: 5", "security: zz", "pull_policy: if-missing", "rlimits: [{soft: 1}]", "image: {disk: x, bind: y}", "image: {bind: x, upper_size: 1G}",
		"mounts: [{target: /x}]", "mounts: [{bind: sub}]", "mounts: [{bind: sub, target: x}]", "mounts: [{bind: sub, create: create, target: /x}]", "mounts: [{bind: sub, format: raw, target: /x}]",
		"mounts: [{tmpfs: {}, uid: 1, gid: 1, target: /x}]", "mounts: [{bind: sub, uid: 1, target: /x}]", "patches: [{text: {path: /a, content: b, mode: \"600\"}}]", "patches: [{append: {}}]",
		"env: {A: \"${NOT_SET}\"}", "registry: {username: a}",
	} {
		if strings.HasPrefix(yaml, "image: ") {
			file("--conf c.yaml", yaml)
			continue
		}
		file("--conf c.yaml"+root, yaml)
	}
	file("--conf c.yaml", "image: {bind: root}")
	file("--conf c.yaml", "image: {disk: disk.raw, fstype: ext4}")
	file("--conf c.yaml", "cpus: 1")
	file("--runtime-conf c.yaml --resource-conf c.yaml"+root, "cpus: 1")
	file("--net-conf c.yaml --net-conf strict.yaml"+root, "{policy: none, allow: [a.com]}")
	file("--fs-conf c.yaml --mkdir /m"+root, "patches: [{remove: {path: /x}}]")
	file("--secret-conf c.yaml --net none"+root, "TOK: {allow: [a.com]}")
	file("--script-conf c.yaml"+root, "hi: echo")
	file("--resource-conf c.yaml --cpus 3 --memory 600M --max-duration 5s"+root, "{cpus: 2, memory: 1G, max_duration: 1m}")
	return append(steps,
		"printf 'image: debian' >c.yaml; msb install -n tool --no-pull --net-conf strict.yaml --conf c.yaml -c 2 -- ps; cat $MSB_HOME/bin/tool",
		"msb install -n tool2 --no-pull --net-conf strict.yaml", "msb install -n tool2 --no-pull --conf nosuch",
	)
}
