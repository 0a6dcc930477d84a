// Keywords, built-in variables, barriers, warp functions and atomics of CUDA C++, for one host thread that runs the
// threads of a block as fibers (host/execution.cpp).
//
// Known differences from a GPU that a header cannot remove: a float out of an integer's range, or NaN, converts as the CPU
// does it; a division of integers by zero traps; shifts by the width or more are the CPU's.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "vector_types.h"

#define __CUDACC__ 1
#define __NVCC__ 1
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0

// thread_local: a block runs within one host thread, launches of several host threads stay apart, and unlike `static` it
// may follow `extern` (dynamic shared memory).
#define __shared__ thread_local
#ifdef CPU_CUDA_KERNEL_SOURCE
// TVM writes `__shared__ alignas(64) float buffer[8]`; g++ takes alignas only in front of thread_local, an attribute anywhere.
#define alignas(n) __attribute__((aligned(n)))
#endif
#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __maxnreg__(n)

namespace cpu_cuda {
struct Index3 {
    unsigned int x, y, z;
};
struct Builtins {
    Index3 thread, block, threads, blocks;
};
}  // namespace cpu_cuda

// Defined by the host executable; initial-exec keeps an access at one instruction.
extern __thread __attribute__((tls_model("initial-exec"))) cpu_cuda::Builtins cpuCudaBuiltins;
#define threadIdx cpuCudaBuiltins.thread
#define blockIdx cpuCudaBuiltins.block
#define blockDim cpuCudaBuiltins.threads
#define gridDim cpuCudaBuiltins.blocks
static const int warpSize = 32;

extern "C" {
// Every function that waits tells its line, so that threads which meet at different barriers are found out.
int cpuCudaBarrier(int kind, int predicate, int line);
void cpuCudaSyncWarp(unsigned int mask, int line);
uint64_t cpuCudaShuffle(int kind, unsigned int mask, uint64_t value, int operand, int width, int line);
unsigned int cpuCudaVote(int kind, unsigned int mask, int predicate, int line);
unsigned int cpuCudaMatchAny(unsigned int mask, uint64_t value, int line);
unsigned int cpuCudaActiveMask(int line);
void cpuCudaAtomic(const volatile void* address, size_t size);
uint64_t cpuCudaClock();
[[noreturn]] void cpuCudaTrap();
[[noreturn]] void cpuCudaAssertFail(const char* expression, int line);
}

inline void __syncthreads(int line = __builtin_LINE()) { cpuCudaBarrier(0, 0, line); }
inline int __syncthreads_count(int predicate, int line = __builtin_LINE()) { return cpuCudaBarrier(1, predicate, line); }
inline int __syncthreads_and(int predicate, int line = __builtin_LINE()) { return cpuCudaBarrier(2, predicate, line); }
inline int __syncthreads_or(int predicate, int line = __builtin_LINE()) { return cpuCudaBarrier(3, predicate, line); }
inline void __syncwarp(unsigned int mask = 0xffffffffu, int line = __builtin_LINE()) { cpuCudaSyncWarp(mask, line); }
inline unsigned int __activemask(int line = __builtin_LINE()) { return cpuCudaActiveMask(line); }
inline int __all_sync(unsigned int mask, int predicate, int line = __builtin_LINE()) {
    return static_cast<int>(cpuCudaVote(0, mask, predicate, line));
}
inline int __any_sync(unsigned int mask, int predicate, int line = __builtin_LINE()) {
    return static_cast<int>(cpuCudaVote(1, mask, predicate, line));
}
inline unsigned int __ballot_sync(unsigned int mask, int predicate, int line = __builtin_LINE()) {
    return cpuCudaVote(2, mask, predicate, line);
}
inline int __uni_sync(unsigned int mask, int predicate, int line = __builtin_LINE()) {
    return static_cast<int>(cpuCudaVote(3, mask, predicate, line));
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned int) {}
inline void __trap() { cpuCudaTrap(); }
inline long long int clock64() { return static_cast<long long int>(cpuCudaClock()); }
inline unsigned long long int __globaltimer() { return cpuCudaClock(); }

namespace cpu_cuda {

template <typename T>
uint64_t toBits(T value) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "warp functions move at most 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
}

template <typename T>
T fromBits(uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

}  // namespace cpu_cuda

template <typename T>
T __shfl_sync(unsigned int mask, T value, int source, int width = 32, int line = __builtin_LINE()) {
    return cpu_cuda::fromBits<T>(cpuCudaShuffle(0, mask, cpu_cuda::toBits(value), source, width, line));
}
template <typename T>
T __shfl_up_sync(unsigned int mask, T value, unsigned int delta, int width = 32, int line = __builtin_LINE()) {
    return cpu_cuda::fromBits<T>(
        cpuCudaShuffle(1, mask, cpu_cuda::toBits(value), static_cast<int>(delta), width, line));
}
template <typename T>
T __shfl_down_sync(unsigned int mask, T value, unsigned int delta, int width = 32, int line = __builtin_LINE()) {
    return cpu_cuda::fromBits<T>(
        cpuCudaShuffle(2, mask, cpu_cuda::toBits(value), static_cast<int>(delta), width, line));
}
template <typename T>
T __shfl_xor_sync(unsigned int mask, T value, int laneMask, int width = 32, int line = __builtin_LINE()) {
    return cpu_cuda::fromBits<T>(cpuCudaShuffle(3, mask, cpu_cuda::toBits(value), laneMask, width, line));
}
template <typename T>
unsigned int __match_any_sync(unsigned int mask, T value, int line = __builtin_LINE()) {
    return cpuCudaMatchAny(mask, cpu_cuda::toBits(value), line);
}

// Loads and stores with cache hints are plain ones here.
#define CPU_CUDA_LOAD(NAME)          \
    template <typename T>            \
    inline T NAME(const T* pointer) { \
        return *pointer;             \
    }
CPU_CUDA_LOAD(__ldg)
CPU_CUDA_LOAD(__ldcg)
CPU_CUDA_LOAD(__ldca)
CPU_CUDA_LOAD(__ldcs)
CPU_CUDA_LOAD(__ldlu)
CPU_CUDA_LOAD(__ldcv)
#undef CPU_CUDA_LOAD
#define CPU_CUDA_STORE(NAME)                    \
    template <typename T>                       \
    inline void NAME(T* pointer, const T value) { \
        *pointer = value;                       \
    }
CPU_CUDA_STORE(__stwb)
CPU_CUDA_STORE(__stcg)
CPU_CUDA_STORE(__stcs)
CPU_CUDA_STORE(__stwt)
#undef CPU_CUDA_STORE

// Atomics. Threads are fibers that switch at waits only, and one launch runs at a time, so a plain read and write is
// atomic; `cpuCudaAtomic` checks the address and tells the race check. CUDA's set of types, no others.
namespace cpu_cuda {

template <typename T, typename F>
__attribute__((no_sanitize("thread"))) inline T atomicUpdate(T* address, F update) {
    cpuCudaAtomic(address, sizeof(T));
    const T old = *address;
    *address = update(old);
    return old;
}

}  // namespace cpu_cuda

#define CPU_CUDA_ATOMIC(NAME, T, EXPRESSION)                                            \
    inline T NAME(T* address, T value) {                                                \
        return cpu_cuda::atomicUpdate(address, [value](T old) -> T {                    \
            return static_cast<T>(EXPRESSION);                                          \
        });                                                                             \
    }
#define CPU_CUDA_ATOMIC_INTEGERS(NAME, EXPRESSION)              \
    CPU_CUDA_ATOMIC(NAME, int, EXPRESSION)                      \
    CPU_CUDA_ATOMIC(NAME, unsigned int, EXPRESSION)             \
    CPU_CUDA_ATOMIC(NAME, unsigned long long int, EXPRESSION)
CPU_CUDA_ATOMIC(atomicAdd, int, static_cast<unsigned int>(old) + static_cast<unsigned int>(value))
CPU_CUDA_ATOMIC(atomicAdd, unsigned int, old + value)
CPU_CUDA_ATOMIC(atomicAdd, unsigned long long int, old + value)
CPU_CUDA_ATOMIC(atomicAdd, float, old + value)
CPU_CUDA_ATOMIC(atomicAdd, double, old + value)
CPU_CUDA_ATOMIC(atomicSub, int, static_cast<unsigned int>(old) - static_cast<unsigned int>(value))
CPU_CUDA_ATOMIC(atomicSub, unsigned int, old - value)
CPU_CUDA_ATOMIC_INTEGERS(atomicMin, value < old ? value : old)
CPU_CUDA_ATOMIC(atomicMin, long long int, value < old ? value : old)
CPU_CUDA_ATOMIC_INTEGERS(atomicMax, value > old ? value : old)
CPU_CUDA_ATOMIC(atomicMax, long long int, value > old ? value : old)
CPU_CUDA_ATOMIC_INTEGERS(atomicAnd, old & value)
CPU_CUDA_ATOMIC_INTEGERS(atomicOr, old | value)
CPU_CUDA_ATOMIC_INTEGERS(atomicXor, old ^ value)
CPU_CUDA_ATOMIC_INTEGERS(atomicExch, ((void)old, value))
CPU_CUDA_ATOMIC(atomicExch, float, ((void)old, value))
CPU_CUDA_ATOMIC(atomicInc, unsigned int, old >= value ? 0u : old + 1u)
CPU_CUDA_ATOMIC(atomicDec, unsigned int, old == 0u || old > value ? value : old - 1u)
#undef CPU_CUDA_ATOMIC_INTEGERS
#undef CPU_CUDA_ATOMIC

#define CPU_CUDA_CAS(T)                                                                                      \
    inline T atomicCAS(T* address, T compare, T value) {                                                     \
        return cpu_cuda::atomicUpdate(address, [=](T old) -> T { return old == compare ? value : old; });    \
    }
CPU_CUDA_CAS(int)
CPU_CUDA_CAS(unsigned int)
CPU_CUDA_CAS(unsigned short int)
CPU_CUDA_CAS(unsigned long long int)
#undef CPU_CUDA_CAS

// nvcc's device-side assert.
#undef assert
#ifdef NDEBUG
#define assert(expression) static_cast<void>(0)
#else
#define assert(expression) ((expression) ? static_cast<void>(0) : cpuCudaAssertFail(#expression, __LINE__))
#endif
