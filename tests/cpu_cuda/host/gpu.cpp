// In the place of the emulated device: a GPU, for the same host (tests/conformance/gpu.py builds it with CUDA's headers).
#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include "execution.h"
#include "symbols.h"

namespace cpu_cuda {

size_t maxOptinShared = kGreatestShared;
thread_local bool forbidSynchronization = false;

namespace {

std::mutex mutex;
std::map<const void*, size_t> buffers;

void check(cudaError_t status, const char* what) {
    if (status != cudaSuccess) fault("%s: %s", what, cudaGetErrorString(status));
}

}  // namespace

void fault(const char* format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    std::vfprintf(stderr, format, arguments);
    va_end(arguments);
    std::fputc('\n', stderr);
    std::fflush(stderr);
    _exit(kKernelFault);
}

void* allocateDevice(size_t size, const char* what) {
    void* pointer = nullptr;
    // To the byte, so that compute-sanitizer sees accesses behind the last one; empty tensors have an address too.
    check(cudaMalloc(&pointer, size > 0 ? size : 1), what);
    const std::lock_guard<std::mutex> lock(mutex);
    buffers[pointer] = size;
    return pointer;
}

bool freeDevice(void* pointer) {
    check(cudaFree(pointer), "cudaFree");
    const std::lock_guard<std::mutex> lock(mutex);
    return buffers.erase(pointer) == 1;
}

size_t allocatedBytes() {
    const std::lock_guard<std::mutex> lock(mutex);
    size_t total = 0;
    for (const auto& buffer : buffers) total += buffer.second;
    return total;
}

// The streams of the runs do not wait for the default stream: each transfer ends here.
void fillDevice(void* pointer, int byte, size_t size) {
    if (size > 0) check(cudaMemset(pointer, byte, size), "cudaMemset");
    check(cudaDeviceSynchronize(), "cudaMemset");
}

void toDevice(void* pointer, const void* from, size_t size) {
    if (size > 0) check(cudaMemcpy(pointer, from, size, cudaMemcpyHostToDevice), "cudaMemcpy");
    check(cudaDeviceSynchronize(), "cudaMemcpy");
}

void fromDevice(void* to, const void* pointer, size_t size) {
    if (size > 0) check(cudaMemcpy(to, pointer, size, cudaMemcpyDeviceToHost), "cudaMemcpy");
}

// What only the emulation can watch: a plugin's own memory, launches, the order of threads.
void setSeed(uint64_t) {}
uint64_t launchCount() { return 0; }
void checkGuards() {}
bool readSymbols(void*, std::string&) { return true; }
std::string whereAmI() { return "host code"; }
std::string describeAddress(const void*) { return "an address"; }

}  // namespace cpu_cuda
