package passthrough

// opcode is the operation of a request (enum fuse_opcode).
type opcode uint32

const (
	opLookup        opcode = 1
	opForget        opcode = 2
	opGetattr       opcode = 3
	opSetattr       opcode = 4
	opReadlink      opcode = 5
	opSymlink       opcode = 6
	opMknod         opcode = 8
	opMkdir         opcode = 9
	opUnlink        opcode = 10
	opRmdir         opcode = 11
	opRename        opcode = 12
	opLink          opcode = 13
	opOpen          opcode = 14
	opRead          opcode = 15
	opWrite         opcode = 16
	opStatfs        opcode = 17
	opRelease       opcode = 18
	opFsync         opcode = 20
	opSetxattr      opcode = 21
	opGetxattr      opcode = 22
	opListxattr     opcode = 23
	opRemovexattr   opcode = 24
	opFlush         opcode = 25
	opInit          opcode = 26
	opOpendir       opcode = 27
	opReaddir       opcode = 28
	opReleasedir    opcode = 29
	opFsyncdir      opcode = 30
	opGetlk         opcode = 31
	opSetlk         opcode = 32
	opSetlkw        opcode = 33
	opAccess        opcode = 34
	opCreate        opcode = 35
	opInterrupt     opcode = 36
	opDestroy       opcode = 38
	opIoctl         opcode = 39
	opBatchForget   opcode = 42
	opFallocate     opcode = 43
	opReaddirplus   opcode = 44
	opRename2       opcode = 45
	opLseek         opcode = 46
	opCopyFileRange opcode = 47
	opSyncfs        opcode = 50
	opTmpfile       opcode = 51
	opStatx         opcode = 52
)

// Protocol version. Requests of this minor version and later ones have the same layout.
const (
	protocolMajor = 7
	protocolMinor = 38
	// oldestMinor is the first one whose INIT tells how many pages a request may have.
	oldestMinor = 28
)

// Sizes in bytes of the fixed parts of requests and answers.
const (
	inHeaderSize  = 40
	outHeaderSize = 16
	attrSize      = 88
	entryOutSize  = 40 + attrSize
	attrOutSize   = 16 + attrSize
	openOutSize   = 16
	direntSize    = 24
	initOutSize   = 64
	statfsOutSize = 80
	statxOutSize  = 288

	maxName   = 255
	maxTarget = 4095 // of a symbolic link
	maxXattr  = 64 << 10
	maxIO     = 1 << 20 // of one request
	maxPages  = maxIO / 4096

	// argsSize is enough for the fixed part and the strings of every request but
	// SETXATTR's value.
	argsSize = 88 + maxName + 1 + maxTarget + 1
)

// Flags of INIT.
const (
	initAsyncRead       = 1 << 0
	initPosixLocks      = 1 << 1
	initAtomicTrunc     = 1 << 3
	initBigWrites       = 1 << 5
	initDontMask        = 1 << 6
	initFlockLocks      = 1 << 10
	initAutoInvalData   = 1 << 12
	initReaddirplus     = 1 << 13
	initAsyncDIO        = 1 << 15
	initParallelDirops  = 1 << 18
	initMaxPages        = 1 << 22
	initCacheSymlinks   = 1 << 23
	initHandleKillpriv2 = 1 << 28
)

// Flags of other requests and answers.
const (
	setattrMode      = 1 << 0
	setattrUID       = 1 << 1
	setattrGID       = 1 << 2
	setattrSize      = 1 << 3
	setattrAtime     = 1 << 4
	setattrMtime     = 1 << 5
	setattrFH        = 1 << 6
	setattrAtimeNow  = 1 << 7
	setattrMtimeNow  = 1 << 8
	setattrKillPrivs = 1 << 11

	openInKillPrivs = 1 << 0
	openKeepCache   = 1 << 1

	writeCache     = 1 << 0
	writeKillPrivs = 1 << 2

	releaseUnflock = 1 << 1

	fsyncDataOnly = 1 << 0
	lockFlock     = 1 << 0

	renameNoReplace = 1 << 0
	renameExchange  = 1 << 1
	renameWhiteout  = 1 << 2
)

// rootID is the node of the shared directory.
const rootID = 1
