package sshd

import (
	"context"
	"io"
	"sync"

	"golang.org/x/crypto/ssh"
)

// directTCPIP is the extra data of a direct-tcpip channel (RFC 4254, 7.2).
type directTCPIP struct {
	Host       string
	Port       uint32
	Originator string
	FromPort   uint32
}

// forward connects a channel to an address that the guest reaches.
func (c *connection) forward(ctx context.Context, ch ssh.NewChannel) {
	var to directTCPIP
	if err := ssh.Unmarshal(ch.ExtraData(), &to); err != nil || to.Host == "" || to.Port == 0 || to.Port > 65535 {
		_ = ch.Reject(ssh.ConnectionFailed, "no such destination")
		return
	}
	conn, err := c.agent.DialTCP(ctx, to.Host, uint16(to.Port))
	if err != nil {
		_ = ch.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer func() { _ = conn.Close() }()
	channel, requests, err := ch.Accept()
	if err != nil {
		return
	}
	defer func() { _ = channel.Close() }()
	c.work.Go(func() {
		ssh.DiscardRequests(requests) // until the client closes the channel
		_ = conn.Close()
	})
	var input sync.WaitGroup
	input.Go(func() {
		_, _ = io.Copy(conn, channel)
		_ = conn.CloseWrite()
	})
	_, _ = io.Copy(channel, conn)
	_ = channel.CloseWrite()
	input.Wait()
}
