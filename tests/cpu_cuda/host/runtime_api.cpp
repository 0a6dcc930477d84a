// CUDA's host API on the emulated device. Everything is done at once, in the order of the calls; streams and events are
// handles only.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "execution.h"

using namespace cpu_cuda;

namespace cpu_cuda {
cudaError_t launch(const void* kernel, void (*invoke)(const void*, void**), dim3 grid, dim3 block, void** arguments,
                   size_t sharedBytes, size_t sharedLimit);
}

struct CUstream_st {
    unsigned int flags;
};
struct CUevent_st {
    unsigned int flags;
};

namespace {

thread_local cudaError_t lastError = cudaSuccess;
thread_local cudaStreamCaptureMode captureMode = cudaStreamCaptureModeGlobal;
std::mutex attributesMutex;
std::map<const void*, int> sharedAttributes;

cudaError_t done(cudaError_t error) {
    if (error != cudaSuccess) lastError = error;
    return error;
}

// What must not happen while a plugin's enqueue runs: it may be captured in a graph.
void refuseInEnqueue(const char* function) {
    if (forbidSynchronization) fault("enqueue called %s: it must neither allocate nor wait", function);
    if (insideKernel()) fault("%s: %s was called by a kernel", whereAmI().c_str(), function);
}

bool usable(const void* pointer, size_t size, bool device) {
    return size == 0 || isDevice(pointer, size) == device;
}

cudaError_t copy(void* destination, const void* source, size_t size, cudaMemcpyKind kind) {
    const bool toDevice = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool fromDevice = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind != cudaMemcpyDefault) {
        if (!usable(destination, size, toDevice)) {
            fault("copy of %zu bytes to %p, %s", size, destination, describeAddress(destination).c_str());
        }
        if (!usable(source, size, fromDevice)) fault("copy of %zu bytes from %p, %s", size, source, describeAddress(source).c_str());
    }
    if (size > 0) std::memmove(destination, source, size);
    return cudaSuccess;
}

}  // namespace

extern "C" {

cudaError_t cudaGetLastError() {
    const cudaError_t error = lastError;
    lastError = cudaSuccess;
    return error;
}
cudaError_t cudaPeekAtLastError() { return lastError; }

const char* cudaGetErrorName(cudaError_t error) {
    switch (error) {
#define CPU_CUDA_ERROR(NAME) \
    case NAME:               \
        return #NAME;
        CPU_CUDA_ERROR(cudaSuccess)
        CPU_CUDA_ERROR(cudaErrorInvalidValue)
        CPU_CUDA_ERROR(cudaErrorMemoryAllocation)
        CPU_CUDA_ERROR(cudaErrorInitializationError)
        CPU_CUDA_ERROR(cudaErrorInvalidConfiguration)
        CPU_CUDA_ERROR(cudaErrorInvalidMemcpyDirection)
        CPU_CUDA_ERROR(cudaErrorInvalidDevice)
        CPU_CUDA_ERROR(cudaErrorNoDevice)
        CPU_CUDA_ERROR(cudaErrorInvalidDeviceFunction)
        CPU_CUDA_ERROR(cudaErrorInvalidResourceHandle)
        CPU_CUDA_ERROR(cudaErrorIllegalAddress)
        CPU_CUDA_ERROR(cudaErrorLaunchOutOfResources)
        CPU_CUDA_ERROR(cudaErrorLaunchFailure)
        CPU_CUDA_ERROR(cudaErrorNotSupported)
        CPU_CUDA_ERROR(cudaErrorStreamCaptureUnsupported)
        CPU_CUDA_ERROR(cudaErrorStreamCaptureInvalidated)
        CPU_CUDA_ERROR(cudaErrorUnknown)
#undef CPU_CUDA_ERROR
    }
    return "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }

cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return done(device == 0 ? cudaSuccess : cudaErrorInvalidDevice); }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    if (device != 0) return done(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = static_cast<int>(kMaxThreads);
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = static_cast<int>(kMaxStaticShared);
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = static_cast<int>(maxOptinShared);
        return cudaSuccess;
    case cudaDevAttrWarpSize:
        *value = static_cast<int>(kWarpSize);
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = 1;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = kComputeMajor;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = kComputeMinor;
        return cudaSuccess;
    }
    return done(cudaErrorInvalidValue);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    if (device != 0) return done(cudaErrorInvalidDevice);
    *properties = cudaDeviceProp{};
    std::strcpy(properties->name, "CPU");
    properties->totalGlobalMem = size_t{1} << 34;
    properties->sharedMemPerBlock = kMaxStaticShared;
    properties->sharedMemPerBlockOptin = maxOptinShared;
    properties->warpSize = static_cast<int>(kWarpSize);
    properties->maxThreadsPerBlock = static_cast<int>(kMaxThreads);
    const int threads[] = {1024, 1024, 64};
    const int grid[] = {2147483647, 65535, 65535};
    for (int i = 0; i < 3; ++i) {
        properties->maxThreadsDim[i] = threads[i];
        properties->maxGridSize[i] = grid[i];
    }
    properties->major = kComputeMajor;
    properties->minor = kComputeMinor;
    properties->multiProcessorCount = 1;
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
    refuseInEnqueue("cudaDeviceSynchronize");
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
    *version = CUDA_VERSION;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, size_t size) {
    refuseInEnqueue("cudaMalloc");
    *pointer = size == 0 ? nullptr : allocateDevice(size, "a buffer of cudaMalloc");
    return done(size == 0 || *pointer != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* pointer) {
    refuseInEnqueue("cudaFree");
    return done(pointer == nullptr || freeDevice(pointer) ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaMallocAsync(void** pointer, size_t size, cudaStream_t) {
    refuseInEnqueue("cudaMallocAsync");
    return cudaMalloc(pointer, size);
}
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) {
    refuseInEnqueue("cudaFreeAsync");
    return cudaFree(pointer);
}
cudaError_t cudaMallocHost(void** pointer, size_t size) {
    refuseInEnqueue("cudaMallocHost");
    *pointer = std::malloc(size);
    return done(*pointer != nullptr || size == 0 ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaHostAlloc(void** pointer, size_t size, unsigned int) { return cudaMallocHost(pointer, size); }
cudaError_t cudaFreeHost(void* pointer) {
    refuseInEnqueue("cudaFreeHost");
    std::free(pointer);
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void* destination, const void* source, size_t size, cudaMemcpyKind kind) {
    refuseInEnqueue("cudaMemcpy");
    return done(copy(destination, source, size, kind));
}
cudaError_t cudaMemcpyAsync(void* destination, const void* source, size_t size, cudaMemcpyKind kind, cudaStream_t) {
    if (forbidSynchronization && kind != cudaMemcpyDeviceToDevice) fault("enqueue copies between host and device");
    return done(copy(destination, source, size, kind));
}
cudaError_t cudaMemset(void* pointer, int value, size_t size) {
    refuseInEnqueue("cudaMemset");
    return cudaMemsetAsync(pointer, value, size, nullptr);
}
cudaError_t cudaMemsetAsync(void* pointer, int value, size_t size, cudaStream_t) {
    if (!usable(pointer, size, true)) fault("memset of %zu bytes, %s", size, describeAddress(pointer).c_str());
    if (size > 0) std::memset(pointer, value, size);
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
    *total = size_t{1} << 34;
    *available = *total - allocatedBytes();
    return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
    const bool device = isDevice(pointer, 1);
    attributes->type = device ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
    attributes->device = device ? 0 : -2;
    attributes->devicePointer = device ? const_cast<void*>(pointer) : nullptr;
    attributes->hostPointer = device ? nullptr : const_cast<void*>(pointer);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
    refuseInEnqueue("cudaStreamCreate");
    *stream = new CUstream_st{flags};
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    refuseInEnqueue("cudaStreamDestroy");
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
    refuseInEnqueue("cudaStreamSynchronize");
    return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned int) { return cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
    *status = forbidSynchronization ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
    std::swap(captureMode, *mode);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
    refuseInEnqueue("cudaEventCreate");
    *event = new CUevent_st{flags};
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) {
    refuseInEnqueue("cudaEventSynchronize");
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cpuCudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
    if (forbidSynchronization) fault("enqueue called cudaFuncSetAttribute: that belongs into the preparation");
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
    const KernelInfo* const info = findKernel(kernel);
    const size_t fixed = info == nullptr ? 0 : info->staticShared;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        fixed + static_cast<size_t>(value) > maxOptinShared) {
        return done(cudaErrorInvalidValue);
    }
    const std::lock_guard<std::mutex> lock(attributesMutex);
    sharedAttributes[kernel] = value;
    return cudaSuccess;
}

cudaError_t cpuCudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
    const KernelInfo* const info = findKernel(kernel);
    if (info == nullptr) return done(cudaErrorInvalidDeviceFunction);
    *attributes = cudaFuncAttributes{};
    attributes->sharedSizeBytes = info->staticShared;
    attributes->maxThreadsPerBlock = static_cast<int>(kMaxThreads);
    attributes->maxDynamicSharedSizeBytes = static_cast<int>(kMaxStaticShared - std::min(kMaxStaticShared, info->staticShared));
    const std::lock_guard<std::mutex> lock(attributesMutex);
    const auto found = sharedAttributes.find(kernel);
    if (found != sharedAttributes.end()) attributes->maxDynamicSharedSizeBytes = found->second;
    return cudaSuccess;
}

cudaError_t cpuCudaLaunch(const void* kernel, void (*invoke)(const void*, void**), dim3 grid, dim3 block, void** arguments,
                          size_t sharedBytes, cudaStream_t) {
    if (insideKernel()) fault("%s: a kernel launched a kernel", whereAmI().c_str());
    const bool gridFits = grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x <= 2147483647u && grid.y <= 65535u && grid.z <= 65535u;
    const bool blockFits = block.x >= 1 && block.y >= 1 && block.z >= 1 && block.x <= kMaxThreads && block.y <= kMaxThreads &&
                           block.z <= 64 && block.x * block.y * block.z <= kMaxThreads;
    if (!gridFits || !blockFits) return done(cudaErrorInvalidConfiguration);
    size_t limit = kMaxStaticShared;
    {
        const std::lock_guard<std::mutex> lock(attributesMutex);
        const auto found = sharedAttributes.find(kernel);
        const KernelInfo* const info = findKernel(kernel);
        if (found != sharedAttributes.end()) {
            limit = static_cast<size_t>(found->second) + (info == nullptr ? 0 : info->staticShared);
        }
    }
    return done(cpu_cuda::launch(kernel, invoke, grid, block, arguments, sharedBytes, limit));
}
}
