// Switching between fibers: the callee-saved registers and the stack pointer, nothing else (no signal mask, so no system
// call; swapcontext would make two).
#pragma once

#include <cstdint>

extern "C" void cpuCudaSwitch(void** savedStack, void* nextStack);
extern "C" void cpuCudaFiberStart();

#if defined(__x86_64__)
// System V ABI: rbx, rbp and r12 to r15 (kernels leave the control words of SSE and x87 alone).
asm(R"(
.text
.globl cpuCudaSwitch
.hidden cpuCudaSwitch
.type cpuCudaSwitch, @function
cpuCudaSwitch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size cpuCudaSwitch, .-cpuCudaSwitch
.globl cpuCudaFiberStart
.hidden cpuCudaFiberStart
.type cpuCudaFiberStart, @function
cpuCudaFiberStart:
    movq %r12, %rdi
    xorl %ebp, %ebp
    callq *%rbx
    ud2
.size cpuCudaFiberStart, .-cpuCudaFiberStart
)");

inline void* prepareStack(void* top, void (*entry)(void*), void* argument) {
    auto* slot = reinterpret_cast<uint64_t*>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15});
    *--slot = 0;  // keeps the stack at 16 bytes where cpuCudaFiberStart calls
    *--slot = 0;
    *--slot = reinterpret_cast<uint64_t>(&cpuCudaFiberStart);
    *--slot = 0;                                      // rbp
    *--slot = reinterpret_cast<uint64_t>(entry);      // rbx
    *--slot = reinterpret_cast<uint64_t>(argument);   // r12
    *--slot = 0;                                      // r13
    *--slot = 0;                                      // r14
    *--slot = 0;                                      // r15
    return slot;
}
#elif defined(__aarch64__)
// AAPCS64: x19 to x30 and the low halves of v8 to v15.
asm(R"(
.text
.globl cpuCudaSwitch
.hidden cpuCudaSwitch
.type cpuCudaSwitch, %function
cpuCudaSwitch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size cpuCudaSwitch, .-cpuCudaSwitch
.globl cpuCudaFiberStart
.hidden cpuCudaFiberStart
.type cpuCudaFiberStart, %function
cpuCudaFiberStart:
    mov x0, x20
    blr x19
    brk #1
.size cpuCudaFiberStart, .-cpuCudaFiberStart
)");

inline void* prepareStack(void* top, void (*entry)(void*), void* argument) {
    auto* slot = reinterpret_cast<uint64_t*>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15}) - 20;
    for (int i = 0; i < 20; ++i) slot[i] = 0;
    slot[0] = reinterpret_cast<uint64_t>(entry);                // x19
    slot[1] = reinterpret_cast<uint64_t>(argument);             // x20
    slot[11] = reinterpret_cast<uint64_t>(&cpuCudaFiberStart);  // x30
    return slot;
}
#else
#error "fibers are written for x86-64 and aarch64"
#endif
