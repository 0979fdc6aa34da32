package proto

import (
	"fmt"
	"strconv"
	"strings"
)

// errnos holds the Linux error numbers of the common architectures (x86-64, arm64): name
// and message in the wording of musl, which the guest's official agent uses.
var errnos = [...]struct{ name, text string }{
	0:   {"", "No error information"},
	1:   {"EPERM", "Operation not permitted"},
	2:   {"ENOENT", "No such file or directory"},
	3:   {"ESRCH", "No such process"},
	4:   {"EINTR", "Interrupted system call"},
	5:   {"EIO", "I/O error"},
	6:   {"ENXIO", "No such device or address"},
	7:   {"E2BIG", "Argument list too long"},
	8:   {"ENOEXEC", "Exec format error"},
	9:   {"EBADF", "Bad file descriptor"},
	10:  {"ECHILD", "No child process"},
	11:  {"EAGAIN", "Resource temporarily unavailable"},
	12:  {"ENOMEM", "Out of memory"},
	13:  {"EACCES", "Permission denied"},
	14:  {"EFAULT", "Bad address"},
	15:  {"ENOTBLK", "Block device required"},
	16:  {"EBUSY", "Resource busy"},
	17:  {"EEXIST", "File exists"},
	18:  {"EXDEV", "Cross-device link"},
	19:  {"ENODEV", "No such device"},
	20:  {"ENOTDIR", "Not a directory"},
	21:  {"EISDIR", "Is a directory"},
	22:  {"EINVAL", "Invalid argument"},
	23:  {"ENFILE", "Too many open files in system"},
	24:  {"EMFILE", "No file descriptors available"},
	25:  {"ENOTTY", "Not a tty"},
	26:  {"ETXTBSY", "Text file busy"},
	27:  {"EFBIG", "File too large"},
	28:  {"ENOSPC", "No space left on device"},
	29:  {"ESPIPE", "Invalid seek"},
	30:  {"EROFS", "Read-only file system"},
	31:  {"EMLINK", "Too many links"},
	32:  {"EPIPE", "Broken pipe"},
	33:  {"EDOM", "Domain error"},
	34:  {"ERANGE", "Result not representable"},
	35:  {"EDEADLK", "Resource deadlock would occur"},
	36:  {"ENAMETOOLONG", "Filename too long"},
	37:  {"ENOLCK", "No locks available"},
	38:  {"ENOSYS", "Function not implemented"},
	39:  {"ENOTEMPTY", "Directory not empty"},
	40:  {"ELOOP", "Symbolic link loop"},
	61:  {"ENODATA", "No data available"},
	62:  {"ETIME", "Device timeout"},
	71:  {"EPROTO", "Protocol error"},
	74:  {"EBADMSG", "Bad message"},
	75:  {"EOVERFLOW", "Value too large for data type"},
	84:  {"EILSEQ", "Illegal byte sequence"},
	87:  {"EUSERS", "Too many users"},
	88:  {"ENOTSOCK", "Not a socket"},
	89:  {"EDESTADDRREQ", "Destination address required"},
	90:  {"EMSGSIZE", "Message too large"},
	91:  {"EPROTOTYPE", "Protocol wrong type for socket"},
	92:  {"ENOPROTOOPT", "Protocol not available"},
	93:  {"EPROTONOSUPPORT", "Protocol not supported"},
	94:  {"ESOCKTNOSUPPORT", "Socket type not supported"},
	95:  {"ENOTSUP", "Not supported"},
	96:  {"EPFNOSUPPORT", "Protocol family not supported"},
	97:  {"EAFNOSUPPORT", "Address family not supported by protocol"},
	98:  {"EADDRINUSE", "Address in use"},
	99:  {"EADDRNOTAVAIL", "Address not available"},
	100: {"ENETDOWN", "Network is down"},
	101: {"ENETUNREACH", "Network unreachable"},
	102: {"ENETRESET", "Connection reset by network"},
	103: {"ECONNABORTED", "Connection aborted"},
	104: {"ECONNRESET", "Connection reset by peer"},
	105: {"ENOBUFS", "No buffer space available"},
	106: {"EISCONN", "Socket is connected"},
	107: {"ENOTCONN", "Socket not connected"},
	108: {"ESHUTDOWN", "Cannot send after socket shutdown"},
	110: {"ETIMEDOUT", "Operation timed out"},
	111: {"ECONNREFUSED", "Connection refused"},
	112: {"EHOSTDOWN", "Host is down"},
	113: {"EHOSTUNREACH", "Host is unreachable"},
	114: {"EALREADY", "Operation already in progress"},
	115: {"EINPROGRESS", "Operation in progress"},
	116: {"ESTALE", "Stale file handle"},
	121: {"EREMOTEIO", "Remote I/O error"},
	122: {"EDQUOT", "Quota exceeded"},
	123: {"ENOMEDIUM", "No medium found"},
	124: {"EMEDIUMTYPE", "Wrong medium type"},
	125: {"ECANCELED", "Operation canceled"},
	126: {"ENOKEY", "Required key not available"},
	127: {"EKEYEXPIRED", "Key has expired"},
	128: {"EKEYREVOKED", "Key has been revoked"},
	129: {"EKEYREJECTED", "Key was rejected by service"},
	130: {"EOWNERDEAD", "Previous owner died"},
	131: {"ENOTRECOVERABLE", "State not recoverable"},
}

// Linux error numbers that the protocol gives a meaning.
const (
	errnoEPERM, errnoENOENT, errnoEIO, errnoE2BIG, errnoENOEXEC, errnoEBADF = 1, 2, 5, 7, 8, 9
	errnoEAGAIN, errnoENOMEM, errnoEACCES, errnoEFAULT, errnoEINVAL         = 11, 12, 13, 14, 22
	errnoENOTDIR, errnoEISDIR, errnoENFILE, errnoEMFILE, errnoETXTBSY       = 20, 21, 23, 24, 26
	errnoEFBIG, errnoENOSPC, errnoEPIPE, errnoENAMETOOLONG, errnoELOOP      = 27, 28, 32, 36, 40
	errnoENXIO, errnoEBUSY, errnoENOSYS                                     = 6, 16, 38
)

// ErrnoText returns the protocol's text for a Linux error number, such as
// "No such file or directory (os error 2)". Clients match parts of it.
func ErrnoText(errno int) string {
	text := errnos[0].text
	if errno > 0 && errno < len(errnos) && errnos[errno].text != "" {
		text = errnos[errno].text
	}
	return fmt.Sprintf("%s (os error %d)", text, errno)
}

// ErrnoName returns the symbolic name of a Linux error number, such as "ENOENT", or ""
// if it is not known.
func ErrnoName(errno int) string {
	if errno > 0 && errno < len(errnos) {
		return errnos[errno].name
	}
	return ""
}

// ParseErrno finds the error number in a text that ends as ErrnoText writes it. It
// returns false for texts without one.
func ParseErrno(text string) (errno int, ok bool) {
	const mark = " (os error "
	i := strings.LastIndex(text, mark)
	if i < 0 || !strings.HasSuffix(text, ")") {
		return 0, false
	}
	n, err := strconv.ParseUint(text[i+len(mark):len(text)-1], 10, 16)
	if err != nil || n == 0 {
		return 0, false
	}
	return int(n), true
}

// ExecErrnoName returns the name core.exec.failed carries for errno, nil for the numbers
// it leaves unnamed.
func ExecErrnoName(errno int) *string {
	switch errno {
	case errnoE2BIG, errnoEACCES, errnoEAGAIN, errnoEBUSY, errnoEFAULT, errnoEINVAL, errnoEIO,
		errnoEISDIR, errnoELOOP, errnoEMFILE, errnoENAMETOOLONG, errnoENFILE, errnoENOENT,
		errnoENOEXEC, errnoENOMEM, errnoENOSYS, errnoENOTDIR, errnoENXIO, errnoEPERM, errnoETXTBSY:
		name := ErrnoName(errno)
		return &name
	}
	return nil
}

// StdinErrnoName returns the name core.exec.stdin.error carries for errno, nil for the
// numbers it leaves unnamed.
func StdinErrnoName(errno int) *string {
	switch errno {
	case errnoEPIPE, errnoEBADF, errnoEINVAL, errnoEIO, errnoENOSPC, errnoEFBIG:
		name := ErrnoName(errno)
		return &name
	}
	return nil
}

// ExecFailureOf classifies the error number of a failed start of a command.
func ExecFailureOf(errno int) ExecFailureKind {
	switch errno {
	case errnoENOENT:
		return FailNotFound
	case errnoENOTDIR:
		return FailBadCwd
	case errnoEACCES, errnoEPERM:
		return FailPermissionDenied
	case errnoENOEXEC, errnoEISDIR, errnoETXTBSY:
		return FailNotExecutable
	case errnoE2BIG, errnoELOOP, errnoENAMETOOLONG, errnoEFAULT:
		return FailBadArgs
	case errnoEMFILE, errnoENFILE, errnoEAGAIN:
		return FailResourceLimit
	case errnoENOMEM:
		return FailOutOfMemory
	}
	return FailOther
}
