package kvm

// Numbers of the KVM user API (include/uapi/linux/kvm.h and
// arch/x86/include/uapi/asm/kvm.h), x86-64.
const (
	apiVersion = 12

	kvmGetAPIVersion     = 0xAE00
	kvmCreateVM          = 0xAE01
	kvmGetMSRIndexList   = 0xC004AE02
	kvmCheckExtension    = 0xAE03
	kvmGetVCPUMmapSize   = 0xAE04
	kvmGetSupportedCPUID = 0xC008AE05

	kvmCreateVCPU          = 0xAE41
	kvmSetUserMemoryRegion = 0x4020AE46
	kvmSetTSSAddr          = 0xAE47
	kvmSetIdentityMapAddr  = 0x4008AE48
	kvmCreateIRQChip       = 0xAE60
	kvmGetIRQChip          = 0xC208AE62
	kvmSetIRQChip          = 0x8208AE63
	kvmIRQFD               = 0x4020AE76
	kvmCreatePIT2          = 0x4040AE77
	kvmIOEventFD           = 0x4040AE79
	kvmSetClock            = 0x4030AE7B
	kvmGetClock            = 0x8030AE7C
	kvmSignalMSI           = 0x4020AEA5
	kvmGetPIT2             = 0x8070AE9F
	kvmSetPIT2             = 0x4070AEA0

	kvmPreFaultMemory = 0xC040AED5

	kvmRun           = 0xAE80
	kvmGetRegs       = 0x8090AE81
	kvmSetRegs       = 0x4090AE82
	kvmGetSregs      = 0x8138AE83
	kvmSetSregs      = 0x4138AE84
	kvmGetMSRs       = 0xC008AE88
	kvmSetMSRs       = 0x4008AE89
	kvmSetSignalMask = 0x4004AE8B
	kvmSetFPU        = 0x41A0AE8D
	kvmGetLAPIC      = 0x8400AE8E
	kvmSetLAPIC      = 0x4400AE8F
	kvmSetCPUID2     = 0x4008AE90
	kvmGetMPState    = 0x8004AE98
	kvmSetMPState    = 0x4004AE99
	kvmGetVCPUEvents = 0x8040AE9F
	kvmSetVCPUEvents = 0x4040AEA0
	kvmGetDebugRegs  = 0x8080AEA1
	kvmSetDebugRegs  = 0x4080AEA2
	kvmGetXSAVE      = 0x9000AEA4
	kvmSetXSAVE      = 0x5000AEA5
	kvmGetXCRs       = 0x8188AEA6
	kvmSetXCRs       = 0x4188AEA7
	kvmKVMClockCtrl  = 0xAEAD
	kvmGetXSAVE2     = 0x9000AECF
	kvmSetDeviceAttr = 0x4018AEE1
	kvmGetDeviceAttr = 0x4018AEE2
)

// Attributes of a vCPU.
const (
	vcpuTSCControl = 0 // the group
	vcpuTSCOffset  = 0
)

// Capabilities for KVM_CHECK_EXTENSION.
const (
	capIRQChip            = 0
	capUserMemory         = 3
	capSetTSSAddr         = 4
	capExtCPUID           = 7
	capMPState            = 14
	capIRQFD              = 32
	capPITState2          = 35
	capIOEventFD          = 36
	capSetIdentityMapAddr = 37
	capAdjustClock        = 39
	capVCPUEvents         = 41
	capDebugRegs          = 50
	capXSAVE              = 55
	capXCRs               = 56
	capMaxVCPUs           = 66
	capImmediateExit      = 136
	capXSAVE2             = 208
)

// Sizes of structures, in bytes.
const (
	sizeXSAVE      = 4096 // struct kvm_xsave without dynamic features
	sizeCPUIDEntry = 40
	sizeListHeader = 8 // of kvm_cpuid2
)

// Fields of struct kvm_run.
const (
	runImmediateExit = 1
	runExitReason    = 8
	runUnion         = 32
	// KVM_EXIT_IO
	runIODirection = runUnion // 1 is out
	runIOSize      = runUnion + 1
	runIOPort      = runUnion + 2
	runIOCount     = runUnion + 4
	runIOOffset    = runUnion + 8
	// KVM_EXIT_MMIO
	runMMIOAddr  = runUnion
	runMMIOData  = runUnion + 8
	runMMIOLen   = runUnion + 16
	runMMIOWrite = runUnion + 20

	runMinSize = 2352
)

// Exit reasons.
const (
	exitUnknown       = 0
	exitIO            = 2
	exitHLT           = 5
	exitMMIO          = 6
	exitIRQWindowOpen = 7
	exitShutdown      = 8
	exitFailEntry     = 9
	exitIntr          = 10
	exitInternalError = 17
	exitSystemEvent   = 24

	systemEventShutdown = 1
	systemEventReset    = 2
	systemEventCrash    = 3
)

// Multiprocessing states, of which all others are of a vCPU that runs or is about to.
const (
	mpUninitialized = 1 // waits for INIT
	mpInitReceived  = 2 // waits for SIPI
	mpHalted        = 3
)

const (
	irqChipCount = 3

	cpuidFlagIndexed = 1 // KVM_CPUID_FLAG_SIGNIFCANT_INDEX

	pitSpeakerDummy = 1 // KVM_PIT_SPEAKER_DUMMY

	msiAddress = 0xFEE00000 // physical destination in bits 12 to 19
	maxAPICID  = 255        // beyond them all

	ioEventDataMatch = 1 // KVM_IOEVENTFD_FLAG_DATAMATCH

	// KVM keeps three pages for real-mode emulation on Intel, and one for its identity
	// map: inside the hole below 4 GiB, above the devices.
	tssAddr         = 0xFFFBD000
	identityMapAddr = 0xFFFBC000
)
