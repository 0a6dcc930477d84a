// Device memory of the emulated device. Each buffer ends (up to 15 bytes) in front of a page that cannot be touched and
// begins behind another; the bytes between are guards whose content is checked after each launch. With AddressSanitizer
// the buffers are plain allocations with its redzones.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "execution.h"

#if defined(__SANITIZE_ADDRESS__)
#define CPU_CUDA_ADDRESS_SANITIZER 1
#else
#define CPU_CUDA_ADDRESS_SANITIZER 0
#endif

namespace cpu_cuda {

thread_local bool forbidSynchronization = false;

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 16;  // of the widest vector type
constexpr unsigned char kGuardByte = 0xa5;

struct Buffer {
    unsigned char* data;
    size_t size;
    unsigned char* mapping;
    size_t mappingSize;
    const char* what;
};

std::mutex mutex;
std::vector<Buffer> buffers;

size_t roundUp(size_t size, size_t to) { return (size + to - 1) / to * to; }

}  // namespace

void* allocateDevice(size_t size, const char* what) {
    Buffer buffer{nullptr, size, nullptr, 0, what};
#if CPU_CUDA_ADDRESS_SANITIZER
    // malloc aligns to 16, and its redzone begins right behind the last byte.
    buffer.data = static_cast<unsigned char*>(std::malloc(std::max<size_t>(size, 1)));
    if (buffer.data == nullptr) return nullptr;
#else
    const size_t inner = std::max(kPage, roundUp(size, kPage));
    buffer.mappingSize = inner + 2 * kPage;
    void* mapping = mmap(nullptr, buffer.mappingSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) return nullptr;
    buffer.mapping = static_cast<unsigned char*>(mapping);
    if (mprotect(buffer.mapping + kPage, inner, PROT_READ | PROT_WRITE) != 0) {
        munmap(mapping, buffer.mappingSize);
        return nullptr;
    }
    buffer.data = buffer.mapping + kPage + inner - roundUp(size, kAlignment);
    std::fill(buffer.mapping + kPage, buffer.data, kGuardByte);
    std::fill(buffer.data + size, buffer.mapping + kPage + inner, kGuardByte);
#endif
    std::fill(buffer.data, buffer.data + size, static_cast<unsigned char>(0xcd));
    const std::lock_guard<std::mutex> lock(mutex);
    buffers.push_back(buffer);
    return buffer.data;
}

void fillDevice(void* pointer, int byte, size_t size) { std::memset(pointer, byte, size); }

void toDevice(void* pointer, const void* from, size_t size) {
    if (size > 0) std::memcpy(pointer, from, size);
}

void fromDevice(void* to, const void* pointer, size_t size) {
    if (size > 0) std::memcpy(to, pointer, size);
}

bool freeDevice(void* pointer) {
    checkGuards();
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = std::find_if(buffers.begin(), buffers.end(), [=](const Buffer& b) { return b.data == pointer; });
    if (found == buffers.end()) return false;
#if CPU_CUDA_ADDRESS_SANITIZER
    std::free(found->data);
#else
    munmap(found->mapping, found->mappingSize);
#endif
    buffers.erase(found);
    return true;
}

bool isDevice(const void* pointer, size_t size) {
    const auto* const at = static_cast<const unsigned char*>(pointer);
    const std::lock_guard<std::mutex> lock(mutex);
    return std::any_of(buffers.begin(), buffers.end(),
                       [=](const Buffer& b) { return at >= b.data && at + size <= b.data + b.size; });
}

bool findBuffer(const void* address, unsigned char*& begin, size_t& size) {
    const auto* const at = static_cast<const unsigned char*>(address);
    const std::lock_guard<std::mutex> lock(mutex);
    for (const Buffer& buffer : buffers) {
        if (at >= buffer.data && at < buffer.data + buffer.size) {
            begin = buffer.data;
            size = buffer.size;
            return true;
        }
    }
    return false;
}

std::string describeAddress(const void* address) {
    const auto* const at = static_cast<const unsigned char*>(address);
    char text[200];
    const Buffer* nearest = nullptr;
    size_t distance = 0;
    bool behind = false;
    // No lock: called when everything else has stopped, perhaps with the lock held.
    for (const Buffer& buffer : buffers) {
        const bool after = at >= buffer.data;
        if (after && at < buffer.data + buffer.size) {
            std::snprintf(text, sizeof text, "byte %zu of %s (%zu bytes)", static_cast<size_t>(at - buffer.data), buffer.what,
                          buffer.size);
            return text;
        }
        const size_t away = after ? static_cast<size_t>(at - (buffer.data + buffer.size)) : static_cast<size_t>(buffer.data - at);
        if (nearest == nullptr || away < distance) {
            nearest = &buffer;
            distance = away;
            behind = after;
        }
    }
    if (address == nullptr) return "a null pointer";
    if (nearest == nullptr) return "no device memory";
    std::snprintf(text, sizeof text, "%zu bytes %s %s (%zu bytes)", distance, behind ? "behind" : "before", nearest->what,
                  nearest->size);
    return text;
}

void checkGuards() {
#if !CPU_CUDA_ADDRESS_SANITIZER
    const std::lock_guard<std::mutex> lock(mutex);
    for (const Buffer& buffer : buffers) {
        unsigned char* const begin = buffer.mapping + kPage;
        unsigned char* const end = buffer.mapping + buffer.mappingSize - kPage;
        for (const auto& range : {std::make_pair(begin, buffer.data), std::make_pair(buffer.data + buffer.size, end)}) {
            unsigned char* const bad =
                std::find_if(range.first, range.second, [](unsigned char byte) { return byte != kGuardByte; });
            if (bad != range.second) fault("out-of-bounds write: %s was overwritten", describeAddress(bad).c_str());
        }
    }
#endif
}

size_t allocatedBytes() {
    const std::lock_guard<std::mutex> lock(mutex);
    size_t total = 0;
    for (const Buffer& buffer : buffers) total += buffer.size;
    return total;
}

}  // namespace cpu_cuda
