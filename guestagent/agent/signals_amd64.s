//go:build linux

#include "textflag.h"

// A signal handler that does nothing. It runs on the signal stack in the C calling
// convention, possibly in the middle of anything, so it is no Go function.
TEXT ·discard(SB),NOSPLIT|NOFRAME,$0-0
	RET

// Where the kernel's frame returns to after the handler: rt_sigreturn(2).
TEXT ·sigreturn(SB),NOSPLIT|NOFRAME,$0-0
	MOVQ	$15, AX
	SYSCALL
	INT	$3

// func handlers() (discard, sigreturn uintptr)
TEXT ·handlers(SB),NOSPLIT,$0-16
	LEAQ	·discard(SB), AX
	MOVQ	AX, discard+0(FP)
	LEAQ	·sigreturn(SB), AX
	MOVQ	AX, sigreturn+8(FP)
	RET
