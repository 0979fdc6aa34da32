package runtime

import (
	"errors"
	"log/slog"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/rootfs/passthrough"
)

// openShares opens the servers of a machine's shares. Nothing is left open after an
// error.
func openShares(shares []Share, log *slog.Logger) (servers []*passthrough.Server, err error) {
	for _, s := range shares {
		server, err := openShare(s, log)
		if err != nil {
			stage := launch.StageMount
			if s.Root {
				stage = launch.StageImage
			}
			for _, open := range servers {
				err = errors.Join(err, open.Close())
			}
			return nil, fail(stage, err)
		}
		servers = append(servers, server)
	}
	return servers, nil
}

func openShare(s Share, log *slog.Logger) (*passthrough.Server, error) {
	cfg := passthrough.Config{
		Root: s.Path, Only: s.Only, FollowSymlinks: s.FollowSymlinks, ReadOnly: s.ReadOnly,
		Stat: passthrough.StatMode(s.Stat), Perms: passthrough.PermMode(s.Perms), MapOwner: s.MapOwner, Quota: s.Quota, Logger: log,
	}
	server, err := passthrough.New(cfg)
	if s.Stat == "" && errors.Is(err, passthrough.ErrNoAttributes) {
		if log != nil {
			log.Warn("files keep no owners and modes of the guest's", "share", s.Path, "reason", err)
		}
		cfg.Stat = passthrough.StatRelaxed
		server, err = passthrough.New(cfg)
	}
	return server, err
}

// Resolved tells the shares the guest's default user.
func (m *microVM) Resolved(uid, gid uint32) {
	for i, server := range m.servers {
		who := passthrough.Owner{UID: uid, GID: gid}
		if s := m.cfg.Shares[i]; s.UID != nil {
			who.UID = *s.UID
		}
		if s := m.cfg.Shares[i]; s.GID != nil {
			who.GID = *s.GID
		}
		server.SetOwner(who)
	}
}
