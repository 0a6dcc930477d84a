// The emulated device: runs the threads of a block as fibers on the calling host thread, blocks one after another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda_runtime.h"

namespace cpu_cuda {

// The emulated device has the limits of compute capability 7.5, the oldest that plugins are compiled for (CUDA C++
// Programming Guide, "Technical Specifications per Compute Capability"), unless a run asks for more shared memory.
constexpr int kComputeMajor = 7;
constexpr int kComputeMinor = 5;
constexpr unsigned int kWarpSize = 32;
constexpr unsigned int kMaxThreads = 1024;
constexpr size_t kMaxStaticShared = 48 * 1024;
constexpr size_t kGreatestShared = 227 * 1024;  // of any device
extern size_t maxOptinShared;                   // a block's, with the permission of cudaFuncSetAttribute

// Arrays of dynamic shared memory have this size (runner.py defines one for each name that kernels declare): what a launch
// may ask for, and a guard.
constexpr size_t kDynamicGuard = 1024;
constexpr size_t kDynamicArray = kGreatestShared + kDynamicGuard;

// Where an error in a kernel ends: one line on stderr, then the process, since nothing after it means anything.
constexpr int kKernelFault = 86;
[[noreturn]] void fault(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Seed of the order in which threads and blocks run, and of the poison that stands for undefined values.
void setSeed(uint64_t seed);
uint64_t launchCount();

// "kernel k, block (0, 0, 0), thread (0, 0, 0)", or "host code" outside of kernels.
std::string whereAmI();
bool insideKernel();

// A range of shared memory of the running kernel.
struct SharedRange {
    unsigned char* begin;
    size_t size;
    bool dynamic;
};

// A loaded library's kernels by address, with the offsets of their __shared__ variables (symbols.cpp).
struct KernelInfo {
    std::string name;
    size_t moduleIndex;
    struct Variable {
        size_t offset;  // within the library's thread-local block
        size_t size;
    };
    std::vector<Variable> shared;
    // Flags of g++'s own, "constructed already", beside variables of a class with constructors (__half has some).
    std::vector<Variable> flags;
    size_t staticShared;
    // The library's arrays of dynamic shared memory: those of all its kernels, since a symbol does not tell who uses it.
    std::vector<size_t> dynamicOffsets;
};
const KernelInfo* findKernel(const void* kernel);
unsigned char* threadLocalBlock(size_t moduleIndex);
bool inLoadedImage(const void* address, bool write);

// memory.cpp: device memory with guards.
void* allocateDevice(size_t size, const char* what);
void fillDevice(void* pointer, int byte, size_t size);
void toDevice(void* pointer, const void* from, size_t size);
void fromDevice(void* to, const void* pointer, size_t size);
bool freeDevice(void* pointer);
bool isDevice(const void* pointer, size_t size);
std::string describeAddress(const void* address);
void checkGuards();
size_t allocatedBytes();
extern thread_local bool forbidSynchronization;  // while a plugin's enqueue runs

// check.cpp: the checks of single accesses, with code compiled for them.
void checkLaunchBegins(const std::vector<SharedRange>& shared, const std::vector<SharedRange>& unchecked);
void checkBlockBegins(uint32_t block);
void checkBarrier();
void checkWarpSync(unsigned int warp, unsigned int mask);
void checkFiber(uint32_t thread, const void* stackBegin, const void* stackEnd);
void checkLaunchEnds();

}  // namespace cpu_cuda
