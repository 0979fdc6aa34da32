//go:build linux

package files

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// Do carries out an operation of one request and one answer. id is that of the request;
// it tells whose handles may be used. The result is nil for operations without one.
func (s *Service) Do(id uint32, op proto.FSOp) (*proto.FSResult, error) {
	switch op := op.(type) {
	case proto.FSRealPath:
		return realPath(op)
	case proto.FSStat:
		return stat(op)
	case proto.FSSetStat:
		return nil, setStat(op)
	case proto.FSList:
		return list(op)
	case proto.FSReadLink:
		return readLink(op)
	case proto.FSSymlink:
		return nil, wrap("symlink: ", unix.Symlink(op.Target, op.LinkPath))
	case proto.FSMkdir:
		return nil, mkdir(op)
	case proto.FSRemove:
		return nil, wrap("remove: ", unix.Unlink(op.Path))
	case proto.FSRemoveDir:
		return nil, removeDir(op)
	case proto.FSCopy:
		return nil, copyFile(op)
	case proto.FSRename:
		return nil, wrap("rename: ", unix.Rename(op.Src, op.Dst))
	case proto.FSOpenFile:
		return s.openFile(id, op)
	case proto.FSOpenDir:
		return s.openDir(id, op)
	case proto.FSCloseHandle:
		return nil, s.close(id, op.Handle)
	case proto.FSReadDir:
		return s.readDir(id, op)
	case proto.FSFStat:
		return s.fstat(id, op)
	case proto.FSFSetStat:
		return nil, s.fsetStat(id, op)
	}
	return nil, fmt.Errorf("operation %s is not one request and one answer", op.Name())
}
