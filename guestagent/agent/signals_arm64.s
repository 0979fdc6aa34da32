//go:build linux

#include "textflag.h"

// A signal handler that does nothing. It runs on the signal stack in the C calling
// convention, possibly in the middle of anything, so it is no Go function.
TEXT ·discard(SB),NOSPLIT|NOFRAME,$0-0
	RET

// func handlers() (discard, sigreturn uintptr)
TEXT ·handlers(SB),NOSPLIT,$0-16
	MOVD	$·discard(SB), R0
	MOVD	R0, discard+0(FP)
	MOVD	ZR, sigreturn+8(FP) // the kernel brings its own
	RET
