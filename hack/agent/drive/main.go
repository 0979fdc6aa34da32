//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/runtime/relay"
)

// limit bounds the whole run: the guest's processors are emulated.
const limit = 2 * time.Minute

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: drive AGENT_SOCKET HEARTBEAT_SOCKET device|tmpfs|disk|handoff|broken")
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := run(ctx, os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal("FAIL ", err)
	}
}

// bootstrap is what the guest is to become.
func bootstrap(mode string) *proto.Bootstrap {
	root := &proto.BlockRoot{Kind: proto.RootOCIErofs, Lower: "/dev/vda", Upper: &proto.Upper{Kind: proto.UpperDevice, Device: "/dev/vdb", FSType: "ext4"}}
	switch mode {
	case "tmpfs":
		root.Upper = &proto.Upper{Kind: proto.UpperTmpfs}
	case "disk":
		root = &proto.BlockRoot{Kind: proto.RootDiskImage, Device: "/dev/vdb"}
	case "broken":
		root.Lower = "/dev/vdq"
	}
	var handoff *proto.HandoffInit
	if mode == "handoff" {
		handoff = &proto.HandoffInit{Cmd: "/bin/my-init", Args: []string{"one"}, Env: []proto.EnvVar{{Key: "MINE", Value: "two"}}}
	}
	ip := func(s string) proto.IP { return proto.IP{Addr: netip.MustParseAddr(s)} }
	dns, dns6 := ip("10.0.2.3"), ip("fec0::3")
	size := uint32(8)
	return &proto.Bootstrap{
		BlockRoot: root, HandoffInit: handoff, Hostname: "box", HostAlias: "host.example", User: "guest", DefaultCwd: "/tmp",
		DefaultEnv:  []proto.EnvVar{{Key: "GREETING", Value: "hello"}},
		TmpfsMounts: []proto.TmpfsMount{{Path: "/mnt/a", SizeMiB: &size, Flags: proto.MountFlags{NoExec: true}}},
		Rlimits:     []proto.Rlimit{{Resource: "nofile", Soft: 500, Hard: 600}},
		Network: &proto.Network{
			Interface: "eth0", MAC: proto.MAC{2, 0x6d, 0x73, 0, 1, 2}, MTU: 1400,
			IPv4: &proto.Address{Address: ip("10.0.2.15"), PrefixLen: 24, Gateway: ip("10.0.2.2"), DNS: &dns},
			IPv6: &proto.Address{Address: ip("fec0::15"), PrefixLen: 64, Gateway: ip("fec0::2"), DNS: &dns6},
		},
	}
}

type quiet struct{}

func (quiet) Output(uint64, bool, bool, []byte) {}

func run(ctx context.Context, agent, heartbeat, mode string) error {
	conn, err := dial(ctx, agent)
	if err != nil {
		return err
	}
	beats, err := dial(ctx, heartbeat)
	if err != nil {
		return err
	}
	r := relay.New(relay.Config{Guest: conn, Log: quiet{}})
	ready, err := r.Boot(ctx, bootstrap(mode))
	var guest *relay.GuestError
	if mode == "broken" {
		if errors.As(err, &guest) && guest.Kind == "image" {
			fmt.Println("ok boot error:", guest)
			return nil
		}
		return fmt.Errorf("a broken root gave %v", err)
	}
	if err != nil {
		return err
	}
	ms := func(ns uint64) float64 { return float64(ns) / 1e6 }
	fmt.Printf("agent started %.1f ms after the kernel, init took %.1f ms, ready %.1f ms after the kernel\n",
		ms(ready.BootTimeNs), ms(ready.InitTimeNs), ms(ready.ReadyTimeNs))
	go func() { _ = r.Run() }()
	sdk, relayEnd := net.Pipe()
	r.Attach(relayEnd)
	c, err := client.New(ctx, sdk, client.Options{})
	if err != nil {
		return err
	}
	if err := checks(ctx, c, mode); err != nil {
		return err
	}
	line, err := bufio.NewReader(beats).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, `{"heartbeat_seq":`) {
		return fmt.Errorf("heartbeat %q: %w", line, err)
	}
	fmt.Print("ok heartbeat ", line)
	if err := c.Shutdown(ctx); err != nil {
		return err
	}
	begin := time.Now()
	<-c.Done() // the machine is gone
	fmt.Println("ok gone after", time.Since(begin).Round(time.Millisecond))
	return nil
}

// dial waits for QEMU's socket.
func dial(ctx context.Context, path string) (net.Conn, error) {
	for {
		conn, err := net.Dial("unix", path)
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// check is one thing that must be so in the guest.
type check struct{ name, script, want string }

func checks(ctx context.Context, c *client.Client, mode string) error {
	list := []check{
		{"user and directory", "id -u; pwd; echo $GREETING $HOME", "1000\n/tmp\nhello /tmp\n"},
		{"host name", "hostname; cat /etc/hostname", "box\nbox\n"},
		{"hosts", "grep -c host.example /etc/hosts", "2\n"},
		{"resolver", "cat /etc/resolv.conf", "nameserver 10.0.2.3\nnameserver fec0::3\n"},
		{"loopback", "ip addr show lo | grep -cE '127.0.0.1/8|::1/128'", "2\n"},
		{"interface", "ip addr show eth0 | grep -cE 'UP.*mtu 1400|02:6d:73:00:01:02|10.0.2.15/24|fec0::15/64'", "4\n"},
		{"routes", "ip route | grep -c 'default via 10.0.2.2'; ip -6 route | grep -c 'default via fec0::2'", "1\n1\n"},
		{"limits", "ulimit -Sn; ulimit -Hn", "500\n600\n"},
		{"kernel file systems", "for m in /dev /proc /sys /sys/fs/cgroup /dev/pts /dev/shm /.msb; do grep -q \" $m \" /proc/mounts || echo $m; done; ls -d /dev/fd /.msb/scripts", "/.msb/scripts\n/dev/fd\n"},
		{"tmpfs", "grep ' /mnt/a ' /proc/mounts | grep -c 'noexec.*size=8192k'", "1\n"},
		{"temporary directories", "stat -c %a /tmp /var/tmp", "1777\n1777\n"},
		{"the root is writable", "echo x >/tmp/x && cat /tmp/x", "x\n"},
		{"no zombie", "sh -c 'sleep 0.1 &'; sleep 0.3; ps -o stat | grep -c Z", "0\n"},
	}
	if mode == "handoff" {
		list = append(list,
			check{"another init", "tr '\\0' ' ' </proc/1/cmdline; cat /tmp/my-init", "/bin/sh /bin/my-init one two /\n"},
			check{"the heir", "ps -o user,args | grep -c '^root.*agentd-hei[r]'; cat /proc/[0-9]*/oom_score_adj | sort | uniq -c | grep -c -- -1000; cat /proc/self/oom_score_adj", "1\n1\n0\n"},
			check{"the log", "ls /run/microsandbox", "agentd.log\n"})
	} else {
		list = append(list, check{"PID 1", "cat /proc/1/comm", "init\n"})
	}
	if mode != "disk" {
		list = append(list, check{"overlay", "grep -c ' / overlay ' /proc/mounts; cat /from-image", "1\nimage\n"})
	}
	for _, k := range list {
		out, err := c.ExecCollect(ctx, client.Command{Name: "sh", Args: []string{"-c", k.script}}, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		if got := string(out.Stdout); got != k.want {
			return fmt.Errorf("%s: got %q and %q, want %q", k.name, got, out.Stderr, k.want)
		}
		fmt.Println("ok", k.name)
	}
	if mode != "handoff" {
		if err := signals(ctx, c); err != nil {
			return err
		}
	}
	return more(ctx, c)
}

// signals sends PID 1 what would end a program that is not prepared.
func signals(ctx context.Context, c *client.Client) error {
	for _, sig := range []string{"HUP", "INT", "QUIT", "TERM", "ABRT", "USR1", "ALRM", "KILL", "SYS", "ILL", "TRAP", "STKFLT"} {
		if _, err := c.ExecCollect(ctx, client.Command{Name: "kill", Args: []string{"-" + sig, "1"}, User: "root"}, nil); err != nil {
			return fmt.Errorf("SIG%s to PID 1: %w", sig, err)
		}
	}
	fmt.Println("ok signals to PID 1")
	return nil
}

// more checks what is not a script.
func more(ctx context.Context, c *client.Client) error {
	e, err := c.Exec(ctx, client.Command{Name: "sh", Args: []string{"-c", "tty; stty size"}, TTY: true, Rows: 30, Cols: 90})
	if err != nil {
		return err
	}
	var out strings.Builder
	if _, err := e.Copy(ctx, &out, nil); err != nil {
		return err
	}
	if out.String() != "/dev/pts/0\r\n30 90\r\n" {
		return fmt.Errorf("terminal: %q", out.String())
	}
	fmt.Println("ok terminal")
	if err := c.WriteFile(ctx, "/root/data", []byte("kept"), nil); err != nil {
		return err
	}
	begin := time.Now()
	const rounds = 20
	for range rounds {
		if _, err := c.ExecCollect(ctx, client.Command{Name: "/bin/echo", Args: []string{"hi"}}, nil); err != nil {
			return err
		}
	}
	fmt.Printf("echo takes %s\n", (time.Since(begin) / rounds).Round(10*time.Microsecond))
	return nil
}
