// The checks of single accesses. Kernels compiled with -fsanitize=thread call a function of ThreadSanitizer's interface
// before each load and store; these definitions stand in for its runtime. Found are accesses outside of what a kernel may
// touch, and races: two accesses to one byte, one of them a write, by threads of one block with no barrier between, or by
// two blocks of one launch. Atomics race with plain writes only (a loop around atomicCAS begins with a plain read), and
// writes of the value that is there already race with nobody.
#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "execution.h"

namespace cpu_cuda {

bool findBuffer(const void* address, unsigned char*& begin, size_t& size);

namespace {

// Who accessed a byte last, as a writer or as a reader. Zero: nobody.
struct Access {
    uint32_t epoch;  // counts barriers and beginnings of blocks; no two blocks share one
    uint32_t block;
    uint32_t warpEpoch;  // counts __syncwarp of the thread's warp
    uint16_t thread;
    uint8_t atomic;
    uint8_t many;  // 1: threads of one warp, 2: of several warps, 3: of several blocks
};

struct Shadow {
    Access write;
    Access read;
};

struct Region {
    unsigned char* begin;
    size_t size;
    Shadow* shadow;
    bool shared;  // another memory for each block, at one address
};

struct State {
    bool on = false;
    uint32_t epoch = 1;
    uint32_t launchEpoch = 0;
    uint32_t block = 0;
    uint32_t thread = 0;
    uint32_t warpEpochs[kMaxThreads / kWarpSize] = {};
    const unsigned char* stackBegin = nullptr;
    const unsigned char* stackEnd = nullptr;
    std::vector<Region> regions;
    std::vector<SharedRange> unchecked;
    size_t lastRegion = 0;
    // A write that met another thread's access: is it one that changes nothing?
    const unsigned char* pending = nullptr;
    size_t pendingSize = 0;
    unsigned char pendingBytes[16];
    std::string pendingMessage;
    const void* caller = nullptr;  // of the present check
};

thread_local State state;
bool instrumented = false;  // a library with calls of this file was loaded

std::string whoIs(const Access& access) {
    char text[100];
    std::snprintf(text, sizeof text, "thread %u of block %u", access.thread, access.block);
    return text;
}

// The place in the library, for a tool that knows its debug information.
std::string place() {
    Dl_info info{};
    char text[40] = "";
    if (state.caller != nullptr && dladdr(state.caller, &info) != 0) {
        // One byte back: the address is that of the instruction behind the call.
        std::snprintf(text, sizeof text, " (at 0x%zx)",
                      static_cast<size_t>(static_cast<const char*>(state.caller) - static_cast<const char*>(info.dli_fbase)) - 1);
    }
    return text;
}

// Tells of a race unless the write has put there what was there already.
void settle() {
    if (state.pending == nullptr) return;
    const unsigned char* const at = state.pending;
    state.pending = nullptr;
    if (std::memcmp(at, state.pendingBytes, state.pendingSize) != 0) fault("%s", state.pendingMessage.c_str());
}

void addRegion(unsigned char* begin, size_t size, bool shared) {
    if (size == 0) return;
    void* shadow = mmap(nullptr, size * sizeof(Shadow), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (shadow == MAP_FAILED) fault("no memory to check accesses with");
    state.regions.push_back({begin, size, static_cast<Shadow*>(shadow), shared});
}

const Region* findRegion(const unsigned char* at) {
    if (state.lastRegion < state.regions.size()) {
        const Region& last = state.regions[state.lastRegion];
        if (at >= last.begin && at < last.begin + last.size) return &last;
    }
    for (size_t i = 0; i < state.regions.size(); ++i) {
        const Region& region = state.regions[i];
        if (at >= region.begin && at < region.begin + region.size) {
            state.lastRegion = i;
            return &region;
        }
    }
    return nullptr;
}

bool unordered(const Access& before, bool shared) {
    if (before.epoch < state.launchEpoch || before.epoch == 0) return false;
    if (before.many == 3 || before.block != state.block) return !shared;
    if (before.epoch != state.epoch) return false;
    if (before.many == 2) return true;
    const bool sameWarp = before.thread / kWarpSize == state.thread / kWarpSize;
    if (sameWarp && before.warpEpoch < state.warpEpochs[state.thread / kWarpSize]) return false;
    return before.many == 1 || before.thread != state.thread;
}

void remember(Access& access, bool atomic, bool reader, bool shared) {
    const uint32_t warpEpoch = state.warpEpochs[state.thread / kWarpSize];
    uint8_t many = 0;
    if (reader && access.epoch >= state.launchEpoch && access.epoch != 0) {
        if (access.many == 3 || access.block != state.block) {
            many = shared ? 0 : 3;
        } else if (access.epoch == state.epoch) {
            if (access.many == 2 || access.thread / kWarpSize != state.thread / kWarpSize) {
                many = 2;
            } else if (access.many == 1 || access.thread != state.thread) {
                many = 1;
            }
        }
    }
    access = Access{state.epoch, state.block, warpEpoch, static_cast<uint16_t>(state.thread), atomic, many};
}

void access(const void* address, size_t size, bool write, bool atomic) {
    const auto* const at = static_cast<const unsigned char*>(address);
    if (at >= state.stackBegin && at < state.stackEnd) return;
    const auto builtin = static_cast<size_t>(at - reinterpret_cast<const unsigned char*>(&cpuCudaBuiltins));
    if (builtin < sizeof cpuCudaBuiltins && !write) return;
    const Region* region = findRegion(at);
    if (region == nullptr) {
        for (const SharedRange& range : state.unchecked) {
            if (at >= range.begin && at < range.begin + range.size) return;
        }
        unsigned char* begin = nullptr;
        size_t bytes = 0;
        if (findBuffer(address, begin, bytes)) {
            addRegion(begin, bytes, false);
            region = findRegion(at);
        } else if (inLoadedImage(address, write)) {
            return;  // a constant table of the kernel
        }
    }
    const char* const verb = atomic ? "atomic" : write ? "write" : "read";
    if (region == nullptr) {
        fault("%s: out-of-bounds %s of %zu bytes, %s%s", whereAmI().c_str(), verb, size, describeAddress(address).c_str(),
              place().c_str());
    }
    if (at + size > region->begin + region->size) {
        fault("%s: out-of-bounds %s of %zu bytes across the end of a buffer of %zu bytes%s", whereAmI().c_str(), verb, size,
              region->size, place().c_str());
    }
    for (size_t i = 0; i < size; ++i) {
        Shadow& shadow = region->shadow[at - region->begin + i];
        const Access* other = nullptr;
        if (!(shadow.write.atomic && (atomic || !write)) && unordered(shadow.write, region->shared)) {
            other = &shadow.write;
        } else if (write && !atomic && unordered(shadow.read, region->shared)) {
            other = &shadow.read;
        }
        if (other != nullptr && state.pending == nullptr) {
            char message[500];
            std::snprintf(message, sizeof message, "%s: race, %s of %zu bytes at byte %zu of a buffer of %zu bytes, which %s %s "
                          "with no barrier between%s", whereAmI().c_str(), verb, size, static_cast<size_t>(at - region->begin),
                          region->size, whoIs(*other).c_str(), other == &shadow.write ? "writes" : "reads", place().c_str());
            if (!write || atomic) fault("%s", message);
            state.pending = at;
            state.pendingSize = std::min(size, sizeof state.pendingBytes);
            std::memcpy(state.pendingBytes, at, state.pendingSize);
            state.pendingMessage = message;
        }
        if (write) {
            remember(shadow.write, atomic, false, region->shared);
        } else {
            remember(shadow.read, atomic, true, region->shared);
        }
    }
}

}  // namespace

void checkLaunchBegins(const std::vector<SharedRange>& shared, const std::vector<SharedRange>& unchecked) {
    if (!instrumented) return;
    state.unchecked = unchecked;
    state.on = true;
    state.launchEpoch = ++state.epoch;
    for (const SharedRange& range : shared) addRegion(range.begin, range.size, true);
}

void checkBlockBegins(uint32_t block) {
    settle();
    ++state.epoch;
    state.block = block;
    std::fill(std::begin(state.warpEpochs), std::end(state.warpEpochs), 0u);
}

void checkBarrier() {
    settle();
    ++state.epoch;
}

void checkWarpSync(unsigned int warp, unsigned int) {
    settle();
    ++state.warpEpochs[warp];
}

void checkFiber(uint32_t thread, const void* stackBegin, const void* stackEnd) {
    settle();
    state.thread = thread;
    state.stackBegin = static_cast<const unsigned char*>(stackBegin);
    state.stackEnd = static_cast<const unsigned char*>(stackEnd);
}

void checkLaunchEnds() {
    settle();
    state.on = false;
    for (const Region& region : state.regions) munmap(region.shadow, region.size * sizeof(Shadow));
    state.regions.clear();
}

}  // namespace cpu_cuda

using cpu_cuda::access;
using cpu_cuda::settle;
using cpu_cuda::state;

extern "C" {

void cpuCudaAtomic(const volatile void* address, size_t size) {
    if (!state.on) return;
    state.caller = __builtin_return_address(0);
    settle();
    access(const_cast<const void*>(address), size, true, true);
}

void __tsan_init() { cpu_cuda::instrumented = true; }

#define CPU_CUDA_ACCESS(NAME, SIZE, WRITE)         \
    void __tsan_##NAME(const void* address) {      \
        if (!state.on) return;                     \
        state.caller = __builtin_return_address(0); \
        settle();                                  \
        access(address, SIZE, WRITE, false);       \
    }
#define CPU_CUDA_ACCESSES(SIZE)                            \
    CPU_CUDA_ACCESS(read##SIZE, SIZE, false)               \
    CPU_CUDA_ACCESS(write##SIZE, SIZE, true)               \
    CPU_CUDA_ACCESS(unaligned_read##SIZE, SIZE, false)     \
    CPU_CUDA_ACCESS(unaligned_write##SIZE, SIZE, true)     \
    CPU_CUDA_ACCESS(volatile_read##SIZE, SIZE, false)      \
    CPU_CUDA_ACCESS(volatile_write##SIZE, SIZE, true)
CPU_CUDA_ACCESSES(1)
CPU_CUDA_ACCESSES(2)
CPU_CUDA_ACCESSES(4)
CPU_CUDA_ACCESSES(8)
CPU_CUDA_ACCESSES(16)
#undef CPU_CUDA_ACCESSES
#undef CPU_CUDA_ACCESS

void __tsan_read_range(const void* address, size_t size) {
    if (!state.on) return;
    state.caller = __builtin_return_address(0);
    settle();
    access(address, size, false, false);
}

void __tsan_write_range(const void* address, size_t size) {
    if (!state.on) return;
    state.caller = __builtin_return_address(0);
    settle();
    access(address, size, true, false);
}

void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
}
