#include "execution.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "context.h"

__thread cpu_cuda::Builtins cpuCudaBuiltins;

namespace cpu_cuda {

size_t maxOptinShared = 64 * 1024;

namespace {

constexpr size_t kStackBytes = 512 * 1024;  // address space; pages come when touched
constexpr size_t kPage = 4096;
constexpr unsigned char kGuardByte = 0xa5;

struct Random {
    uint64_t state;
    uint64_t next() {  // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return state * 0x2545f4914f6cdd1dULL;
    }
    uint32_t below(uint32_t bound) {
        return static_cast<uint32_t>((static_cast<uint64_t>(static_cast<uint32_t>(next() >> 32)) * bound) >> 32);
    }
};

// Of this host thread: each runs a context of its own.
thread_local uint64_t seed = 1;
thread_local uint64_t launches = 0;

enum class Wait { kNone, kBarrier, kActiveMask, kWarp };
enum class WarpOperation { kSync, kShuffle, kVote, kMatch };
const char* const kWarpNames[] = {"__syncwarp", "a shuffle", "a vote", "a match"};

struct Fiber {
    void* stack = nullptr;  // saved stack pointer
    unsigned char* memory = nullptr;
};

struct Thread {
    Index3 index;
    Fiber* fiber;
    bool finished;
    Wait wait;
    int line;
    int kind;       // of a barrier, shuffle or vote
    int predicate;  // of a barrier or vote
    WarpOperation operation;
    unsigned int mask;
    uint64_t value;
    int operand;
    int width;
    uint64_t result;
};

struct Device {
    std::vector<Thread> threads;
    std::vector<uint32_t> ready;  // taken from the back
    std::vector<Fiber*> idle;
    void* schedulerStack = nullptr;
    uint32_t current = 0;
    uint32_t live = 0;       // threads not finished
    uint32_t atBarrier = 0;
    Random random{1};
    const void* kernel = nullptr;
    const KernelInfo* info = nullptr;
    void (*invoke)(const void*, void**) = nullptr;
    void** arguments = nullptr;
    bool running = false;
};

thread_local Device device;

const char* kernelName() { return device.info != nullptr ? device.info->name.c_str() : "of unknown name"; }

void loadIndex() {
    threadIdx = device.threads[device.current].index;
}

// Runs threads to their ends, one after another, as long as none waits.
void fiberMain(void* self) {
    auto* const fiber = static_cast<Fiber*>(self);
    for (;;) {
        device.threads[device.current].fiber = fiber;
        checkFiber(device.current, fiber->memory + kPage, fiber->memory + kStackBytes);
        device.invoke(device.kernel, device.arguments);
        Thread& thread = device.threads[device.current];
        thread.finished = true;
        thread.fiber = nullptr;
        --device.live;
        if (!device.ready.empty() && device.threads[device.ready.back()].fiber == nullptr) {
            device.current = device.ready.back();
            device.ready.pop_back();
            loadIndex();
            continue;
        }
        device.idle.push_back(fiber);
        void* target = device.schedulerStack;
        if (!device.ready.empty()) {
            device.current = device.ready.back();
            device.ready.pop_back();
            loadIndex();
            target = device.threads[device.current].fiber->stack;
            const Fiber* next = device.threads[device.current].fiber;
            checkFiber(device.current, next->memory + kPage, next->memory + kStackBytes);
        }
        cpuCudaSwitch(&fiber->stack, target);
    }
}

Fiber* freshFiber() {
    if (!device.idle.empty()) {
        Fiber* fiber = device.idle.back();
        device.idle.pop_back();
        return fiber;
    }
    auto* fiber = new Fiber;
    void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0) fault("no memory for a fiber's stack");
    fiber->memory = static_cast<unsigned char*>(memory);
    fiber->stack = prepareStack(fiber->memory + kStackBytes, &fiberMain, fiber);
    return fiber;
}

// The next runnable thread's stack, or the scheduler's when there is none.
void* nextStack() {
    if (device.ready.empty()) return device.schedulerStack;
    device.current = device.ready.back();
    device.ready.pop_back();
    loadIndex();
    Fiber* fiber = device.threads[device.current].fiber;
    if (fiber == nullptr) fiber = freshFiber();
    checkFiber(device.current, fiber->memory + kPage, fiber->memory + kStackBytes);
    return fiber->stack;
}

// Gives the processor away until someone puts this thread into `ready` again.
void waitHere() {
    Fiber* const fiber = device.threads[device.current].fiber;
    void* const target = nextStack();
    if (target != fiber->stack || device.threads[device.current].fiber != fiber) cpuCudaSwitch(&fiber->stack, target);
}

void shuffleFrom(size_t begin) {
    auto& ready = device.ready;
    for (size_t i = ready.size(); i > begin + 1; --i) {
        std::swap(ready[i - 1], ready[begin + device.random.below(static_cast<uint32_t>(i - begin))]);
    }
}

void release(uint32_t thread) {
    device.threads[thread].wait = Wait::kNone;
    device.ready.push_back(thread);
}

// All live threads stand at one barrier.
void releaseBarrier() {
    const auto& first = *std::find_if(device.threads.begin(), device.threads.end(), [](const Thread& t) { return !t.finished; });
    if (device.live != device.threads.size()) {
        fault("kernel %s, block (%u, %u, %u): __syncthreads in line %d is waited for by %u threads, but %zu threads have "
              "ended without reaching it",
              kernelName(), blockIdx.x, blockIdx.y, blockIdx.z, first.line, device.live,
              device.threads.size() - device.live);
    }
    int count = 0;
    for (const Thread& thread : device.threads) {
        if (thread.line != first.line || thread.kind != first.kind) {
            fault("kernel %s, block (%u, %u, %u): divergent __syncthreads, thread (%u, %u, %u) waits in line %d, thread "
                  "(%u, %u, %u) in line %d",
                  kernelName(), blockIdx.x, blockIdx.y, blockIdx.z, first.index.x, first.index.y, first.index.z, first.line,
                  thread.index.x, thread.index.y, thread.index.z, thread.line);
        }
        count += thread.predicate != 0;
    }
    const int total = static_cast<int>(device.threads.size());
    const int results[] = {0, count, count == total, count != 0};
    const uint64_t result = static_cast<uint64_t>(results[first.kind]);
    device.atBarrier = 0;
    checkBarrier();
    const size_t begin = device.ready.size();
    for (uint32_t i = 0; i < device.threads.size(); ++i) {
        device.threads[i].result = result;
        release(i);
    }
    shuffleFrom(begin);
}

uint64_t poison() {
    const uint64_t flips = device.random.next() & 0x8000000080000000ULL;
    return 0x7f7fdead7f7fdeadULL ^ flips;
}

// All live lanes of `mask` wait at the same warp function: computes what each gets.
void finishWarp(uint32_t base, unsigned int mask) {
    const uint32_t end = static_cast<uint32_t>(std::min<size_t>(base + kWarpSize, device.threads.size()));
    Thread* const lanes = &device.threads[base];
    const Thread& first = lanes[__builtin_ctz(mask)];
    for (uint32_t lane = 0; lane < end - base; ++lane) {
        if ((mask >> lane & 1u) == 0) continue;
        Thread& thread = lanes[lane];
        switch (thread.operation) {
        case WarpOperation::kSync:
            break;
        case WarpOperation::kShuffle: {
            const int width = thread.width;
            const int own = static_cast<int>(lane);
            const int begin = own & ~(width - 1);
            int source = own;
            bool own_value = false;
            switch (thread.kind) {
            case 0:
                source = begin + (thread.operand & (width - 1));
                break;
            case 1:
                source = own - thread.operand;
                own_value = thread.operand > own - begin || thread.operand < 0;
                break;
            case 2:
                source = own + thread.operand;
                own_value = thread.operand < 0 || thread.operand >= begin + width - own;
                break;
            default:
                source = own ^ thread.operand;
                own_value = source < 0 || source >= begin + width;  // a lower segment may be read
                break;
            }
            if (own_value) {
                thread.result = thread.value;
            } else if (source < 32 && (mask >> source & 1u) != 0) {
                thread.result = lanes[source].value;
            } else {
                thread.result = poison();  // a lane that takes no part: undefined
            }
            break;
        }
        case WarpOperation::kVote: {
            unsigned int ballot = 0;
            for (uint32_t other = 0; other < end - base; ++other) {
                if ((mask >> other & 1u) != 0 && lanes[other].predicate != 0) ballot |= 1u << other;
            }
            const uint64_t results[] = {ballot == mask, ballot != 0, ballot, ballot == mask || ballot == 0};
            thread.result = results[thread.kind];
            break;
        }
        case WarpOperation::kMatch: {
            unsigned int equal = 0;
            for (uint32_t other = 0; other < end - base; ++other) {
                if ((mask >> other & 1u) != 0 && lanes[other].value == thread.value) equal |= 1u << other;
            }
            thread.result = equal;
            break;
        }
        }
    }
    if (first.operation == WarpOperation::kSync) checkWarpSync(base / kWarpSize, mask);
    const size_t begin = device.ready.size();
    for (uint32_t lane = 0; lane < end - base; ++lane) {
        if (mask >> lane & 1u) release(base + lane);
    }
    shuffleFrom(begin);
}

// Releases the group that the current thread completes, if it does.
bool tryFinishWarp(uint32_t base) {
    const uint32_t size = static_cast<uint32_t>(std::min<size_t>(kWarpSize, device.threads.size() - base));
    const Thread& self = device.threads[device.current];
    unsigned int present = 0;
    for (uint32_t lane = 0; lane < size; ++lane) {
        if ((self.mask >> lane & 1u) == 0) continue;
        const Thread& other = device.threads[base + lane];
        if (other.finished) continue;
        if (other.wait != Wait::kWarp) return false;
        if (other.operation != self.operation || other.mask != self.mask || other.kind != self.kind ||
            other.width != self.width) {
            fault("kernel %s, block (%u, %u, %u): lanes of one mask meet in different warp functions: thread (%u, %u, %u) "
                  "in %s of line %d with mask 0x%08x, thread (%u, %u, %u) in %s of line %d with mask 0x%08x",
                  kernelName(), blockIdx.x, blockIdx.y, blockIdx.z, self.index.x, self.index.y, self.index.z,
                  kWarpNames[static_cast<int>(self.operation)], self.line, self.mask, other.index.x, other.index.y,
                  other.index.z, kWarpNames[static_cast<int>(other.operation)], other.line, other.mask);
        }
        present |= 1u << lane;
    }
    finishWarp(base, present);
    return true;
}

uint64_t warpFunction(WarpOperation operation, int kind, unsigned int mask, uint64_t value, int operand, int width,
                      int predicate, int line) {
    if (!device.running) fault("a warp function was called by host code");
    const uint32_t base = device.current / kWarpSize * kWarpSize;
    const uint32_t lane = device.current % kWarpSize;
    if ((mask >> lane & 1u) == 0) {
        fault("%s: %s in line %d with mask 0x%08x that lacks the caller's own lane %u", whereAmI().c_str(),
              kWarpNames[static_cast<int>(operation)], line, mask, lane);
    }
    if (operation == WarpOperation::kShuffle && (width < 1 || width > 32 || (width & (width - 1)) != 0)) {
        fault("%s: a shuffle in line %d with width %d, which is no power of two up to 32", whereAmI().c_str(), line, width);
    }
    Thread& self = device.threads[device.current];
    self.wait = Wait::kWarp;
    self.operation = operation;
    self.kind = kind;
    self.mask = mask;
    self.value = value;
    self.operand = operand;
    self.width = width;
    self.predicate = predicate;
    self.line = line;
    tryFinishWarp(base);
    waitHere();
    return device.threads[device.current].result;
}

// Nothing can run: groups that wait for __activemask go on; a full barrier opens; anything else is a deadlock.
void resolve() {
    const auto& threads = device.threads;
    bool released = false;
    for (uint32_t base = 0; base < threads.size(); base += kWarpSize) {
        const uint32_t size = static_cast<uint32_t>(std::min<size_t>(kWarpSize, threads.size() - base));
        int line = 0;
        unsigned int mask = 0;
        for (uint32_t lane = 0; lane < size; ++lane) {
            const Thread& thread = threads[base + lane];
            if (thread.finished || thread.wait != Wait::kActiveMask) continue;
            // The branch that comes first in the source runs first; later ones wait for it, as hardware tends to.
            if (mask == 0 || thread.line < line) {
                mask = 0;
                line = thread.line;
            }
            if (thread.line == line) mask |= 1u << lane;
        }
        if (mask == 0) continue;
        const size_t begin = device.ready.size();
        for (uint32_t lane = 0; lane < size; ++lane) {
            if ((mask >> lane & 1u) == 0) continue;
            device.threads[base + lane].result = mask;
            release(base + lane);
        }
        shuffleFrom(begin);
        released = true;
    }
    if (released) return;
    // Lanes of a mask that ended meanwhile no longer hold the others up.
    for (uint32_t i = 0; i < threads.size(); ++i) {
        if (!threads[i].finished && threads[i].wait == Wait::kWarp) {
            device.current = i;
            if (tryFinishWarp(i / kWarpSize * kWarpSize)) return;
        }
    }
    if (device.atBarrier == device.live) {
        releaseBarrier();
        return;
    }
    const Thread* barrier = nullptr;
    const Thread* warp = nullptr;
    for (const Thread& thread : threads) {
        if (thread.finished) continue;
        if (thread.wait == Wait::kBarrier && barrier == nullptr) barrier = &thread;
        if (thread.wait == Wait::kWarp && warp == nullptr) warp = &thread;
    }
    if (warp == nullptr) fault("kernel %s: threads wait for nothing", kernelName());
    if (barrier == nullptr) {
        fault("kernel %s, block (%u, %u, %u): deadlock, thread (%u, %u, %u) waits in %s of line %d with mask 0x%08x for lanes "
              "that never come",
              kernelName(), blockIdx.x, blockIdx.y, blockIdx.z, warp->index.x, warp->index.y, warp->index.z,
              kWarpNames[static_cast<int>(warp->operation)], warp->line, warp->mask);
    }
    fault("kernel %s, block (%u, %u, %u): deadlock, thread (%u, %u, %u) waits at __syncthreads in line %d, thread (%u, %u, "
          "%u) in %s of line %d with mask 0x%08x",
          kernelName(), blockIdx.x, blockIdx.y, blockIdx.z, barrier->index.x, barrier->index.y, barrier->index.z,
          barrier->line, warp->index.x, warp->index.y, warp->index.z, kWarpNames[static_cast<int>(warp->operation)],
          warp->line, warp->mask);
}

void runBlock(const std::vector<SharedRange>& shared, uint32_t blockNumber) {
    // Undefined is something else in each block, so that no fixed value is right by chance.
    static const unsigned char kPoison[] = {0xcd, 0xff, 0x7f, 0xfe};
    const unsigned char fill = kPoison[device.random.below(4)];
    for (const SharedRange& range : shared) {
        std::memset(range.begin, fill, range.size);
        if (range.dynamic) std::memset(range.begin + range.size, kGuardByte, kDynamicGuard);
    }
    checkBlockBegins(blockNumber);
    device.live = static_cast<uint32_t>(device.threads.size());
    device.atBarrier = 0;
    device.ready.clear();
    for (uint32_t i = 0; i < device.threads.size(); ++i) {
        Thread& thread = device.threads[i];
        thread.fiber = nullptr;
        thread.finished = false;
        thread.wait = Wait::kNone;
        device.ready.push_back(i);
    }
    shuffleFrom(0);
    while (device.live > 0) {
        if (device.ready.empty()) resolve();
        void* const target = nextStack();
        cpuCudaSwitch(&device.schedulerStack, target);
    }
    for (const SharedRange& range : shared) {
        if (!range.dynamic) continue;
        for (size_t i = 0; i < kDynamicGuard; ++i) {
            if (range.begin[range.size + i] != kGuardByte) {
                fault("kernel %s, block (%u, %u, %u): out-of-bounds write %zu bytes behind the %zu bytes of dynamic shared "
                      "memory of the launch",
                      kernelName(), blockIdx.x, blockIdx.y, blockIdx.z, i, range.size);
            }
        }
    }
}

// A fiber that runs out of stack faults in its guard page: the handler needs a stack of its own.
void useSignalStack() {
    static thread_local bool installed = false;
    if (installed) return;
    installed = true;
    constexpr size_t size = 64 * 1024;
    stack_t stack{};
    stack.ss_sp = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack.ss_size = size;
    if (stack.ss_sp != MAP_FAILED) sigaltstack(&stack, nullptr);
}

}  // namespace

void setSeed(uint64_t value) { seed = value * 2 + 1; }
uint64_t launchCount() { return launches; }
bool insideKernel() { return device.running; }

std::string whereAmI() {
    if (!device.running) return "host code";
    char text[400];
    std::snprintf(text, sizeof text, "kernel %s, block (%u, %u, %u), thread (%u, %u, %u)", kernelName(), blockIdx.x, blockIdx.y,
                  blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
    return text;
}

void fault(const char* format, ...) {
    char line[1024];
    std::va_list arguments;
    va_start(arguments, format);
    const int length = std::vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    const size_t end = std::min(static_cast<size_t>(length < 0 ? 0 : length), sizeof line - 2);
    line[end] = '\n';
    // write and _exit: also called from signal handlers.
    if (write(2, "cpu_cuda: ", 10) < 0 || write(2, line, end + 1) < 0) _exit(kKernelFault);
    _exit(kKernelFault);
}

cudaError_t launch(const void* kernel, void (*invoke)(const void*, void**), dim3 grid, dim3 block, void** arguments,
                   size_t sharedBytes, size_t sharedLimit) {
    useSignalStack();
    // Kernels of other host threads wait: the emulated device runs one kernel at a time.
    static std::mutex mutex;
    const std::lock_guard<std::mutex> lock(mutex);
    ++launches;
    device.random.state = (seed * 0x9e3779b97f4a7c15ULL) ^ launches;
    device.kernel = kernel;
    device.info = findKernel(kernel);
    device.invoke = invoke;
    device.arguments = arguments;
    std::vector<SharedRange> shared, flags;
    size_t staticBytes = 0;
    if (device.info != nullptr && device.info->moduleIndex != 0) {
        unsigned char* const storage = threadLocalBlock(device.info->moduleIndex);
        for (const auto& variable : device.info->shared) {
            shared.push_back({storage + variable.offset, variable.size, false});
        }
        for (const auto& flag : device.info->flags) flags.push_back({storage + flag.offset, flag.size, false});
        staticBytes = device.info->staticShared;
        // Without dynamic shared memory the arrays are all guard.
        for (const size_t offset : device.info->dynamicOffsets) shared.push_back({storage + offset, sharedBytes, true});
    }
    if (staticBytes > kMaxStaticShared) return cudaErrorInvalidConfiguration;
    if (staticBytes + sharedBytes > std::max(sharedLimit, kMaxStaticShared)) return cudaErrorInvalidValue;

    const uint32_t count = block.x * block.y * block.z;
    device.threads.resize(count);
    for (uint32_t i = 0; i < count; ++i) {
        device.threads[i].index = Index3{i % block.x, i / block.x % block.y, i / block.x / block.y};
    }
    blockDim = Index3{block.x, block.y, block.z};
    gridDim = Index3{grid.x, grid.y, grid.z};
    device.running = true;
    checkLaunchBegins(shared, flags);
    // Blocks run in no order that a kernel may rely on: here from a random one on, upwards or downwards.
    const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
    const uint64_t start = device.random.next() % blocks;
    const bool upwards = device.random.next() >> 63 != 0;
    for (uint64_t i = 0; i < blocks; ++i) {
        const uint64_t at = upwards ? (start + i) % blocks : (start + blocks - i) % blocks;
        blockIdx = Index3{static_cast<unsigned int>(at % grid.x), static_cast<unsigned int>(at / grid.x % grid.y),
                          static_cast<unsigned int>(at / grid.x / grid.y)};
        runBlock(shared, static_cast<uint32_t>(at));
    }
    checkLaunchEnds();
    device.running = false;
    checkGuards();
    return cudaSuccess;
}

}  // namespace cpu_cuda

using namespace cpu_cuda;

extern "C" {

void** cpuCudaWarpTable();  // mma.h
void cpuCudaMisuse(const char* message);

int cpuCudaBarrier(int kind, int predicate, int line) {
    if (!device.running) fault("__syncthreads was called by host code");
    Thread& self = device.threads[device.current];
    self.wait = Wait::kBarrier;
    self.line = line;
    self.kind = kind;
    self.predicate = predicate;
    if (++device.atBarrier == device.live) releaseBarrier();
    waitHere();
    return static_cast<int>(device.threads[device.current].result);
}

void cpuCudaSyncWarp(unsigned int mask, int line) { warpFunction(WarpOperation::kSync, 0, mask, 0, 0, 32, 0, line); }

uint64_t cpuCudaShuffle(int kind, unsigned int mask, uint64_t value, int operand, int width, int line) {
    return warpFunction(WarpOperation::kShuffle, kind, mask, value, operand, width, 0, line);
}

unsigned int cpuCudaVote(int kind, unsigned int mask, int predicate, int line) {
    return static_cast<unsigned int>(warpFunction(WarpOperation::kVote, kind, mask, 0, 0, 32, predicate, line));
}

unsigned int cpuCudaMatchAny(unsigned int mask, uint64_t value, int line) {
    return static_cast<unsigned int>(warpFunction(WarpOperation::kMatch, 0, mask, value, 0, 32, 0, line));
}

// The lanes that are together: those that reach the same line before anything else can happen in their warp.
unsigned int cpuCudaActiveMask(int line) {
    if (!device.running) fault("__activemask was called by host code");
    Thread& self = device.threads[device.current];
    self.wait = Wait::kActiveMask;
    self.line = line;
    waitHere();
    return static_cast<unsigned int>(device.threads[device.current].result);
}

void** cpuCudaWarpTable() {
    static thread_local void* table[kMaxThreads];
    return &table[device.current / kWarpSize * kWarpSize];
}

void cpuCudaMisuse(const char* message) { fault("%s: %s", whereAmI().c_str(), message); }

uint64_t cpuCudaClock() {
    static thread_local uint64_t ticks = 0;
    return ++ticks;
}

void cpuCudaTrap() { fault("%s: __trap", whereAmI().c_str()); }

void cpuCudaAssertFail(const char* expression, int line) {
    fault("%s: assertion `%s` failed in line %d", whereAmI().c_str(), expression, line);
}
}
