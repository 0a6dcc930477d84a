// What the steps of `enqueue` are made of: kernel launches and copies. The same for every plugin. Included by CUDA source that is compiled once for each architecture, so it stays small.
#ifndef PLUGIN_AUTOGEN_RUNTIME_H
#define PLUGIN_AUTOGEN_RUNTIME_H

#include <cuda_runtime.h>

#include "basics.h"

// An unnamed namespace: two libraries in one process may carry different releases of this file.
namespace
{

// The address `offset` bytes into a buffer. Kernels take inputs without const and do not write to them.
inline void* at(void const* buffer, int64_t offset)
{
    return const_cast<char*>(static_cast<char const*>(buffer)) + offset;
}

struct Extent
{
    int64_t x, y, z;
};

// An argument as the kernel declares it: addresses become typed pointers, 64-bit integers the kernel's integer type.
template <typename Parameter>
struct ArgumentAs
{
    static Parameter from(int64_t value)
    {
        return static_cast<Parameter>(value);
    }
};

template <typename Element>
struct ArgumentAs<Element*>
{
    static Element* from(void* address)
    {
        return static_cast<Element*>(address);
    }
};

template <typename... Parameters>
struct Launcher
{
    // The values arrive by copy, so that cudaLaunchKernel can be given their addresses.
    static cudaError_t run(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t sharedBytes,
        cudaStream_t stream, Parameters... values)
    {
        void* addresses[sizeof...(Parameters) + 1] = {static_cast<void*>(&values)..., nullptr};
        return cudaLaunchKernel(kernel, grid, block, addresses, sharedBytes, stream);
    }
};

// Launches a kernel. An empty grid or block is no error: there is nothing to compute for a tensor of size 0.
template <typename... Parameters, typename... Arguments>
inline cudaError_t launch(void (*kernel)(Parameters...), Extent grid, Extent block, int64_t sharedBytes,
    cudaStream_t stream, Arguments... arguments)
{
    static_assert(sizeof...(Parameters) == sizeof...(Arguments), "a kernel gets as many arguments as it declares");
    if (grid.x <= 0 || grid.y <= 0 || grid.z <= 0 || block.x <= 0 || block.y <= 0 || block.z <= 0)
    {
        return cudaSuccess;
    }
    // Checked before the numbers are narrowed to 32 bits.
    if (grid.x > 2147483647 || grid.y > 65535 || grid.z > 65535 || block.x > 1024 || block.y > 1024 || block.z > 64
        || block.x * block.y * block.z > 1024 || sharedBytes < 0 || sharedBytes > 2147483647)
    {
        return cudaErrorInvalidConfiguration;
    }
    cudaError_t const status = Launcher<Parameters...>::run(kernel,
        dim3(static_cast<unsigned int>(grid.x), static_cast<unsigned int>(grid.y), static_cast<unsigned int>(grid.z)),
        dim3(static_cast<unsigned int>(block.x), static_cast<unsigned int>(block.y),
            static_cast<unsigned int>(block.z)),
        static_cast<size_t>(sharedBytes), stream, ArgumentAs<Parameters>::from(arguments)...);
    if (status != cudaSuccess)
    {
        cudaGetLastError(); // the error is reported by the return code; do not leave it for the next caller to find
    }
    return status;
}

// Copies within the device, in the stream.
inline cudaError_t copy(void* destination, void const* source, int64_t bytes, cudaStream_t stream)
{
    if (bytes <= 0 || destination == source)
    {
        return cudaSuccess;
    }
    cudaError_t const status
        = cudaMemcpyAsync(destination, source, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream);
    if (status != cudaSuccess)
    {
        cudaGetLastError();
    }
    return status;
}

// Loads a kernel onto the current device, which the driver may otherwise put off until the first launch, and lets it
// use dynamic shared memory beyond the 48 KB that need no permission. `sharedBytes` < 0: as much as the device has.
template <typename... Parameters>
inline cudaError_t prepareKernel(void (*kernel)(Parameters...), int64_t sharedBytes)
{
    cudaFuncAttributes attributes;
    PLUGIN_AUTOGEN_CHECK(cudaFuncGetAttributes(&attributes, kernel));
    if (sharedBytes < 0)
    {
        int device = 0;
        int limit = 0;
        PLUGIN_AUTOGEN_CHECK(cudaGetDevice(&device));
        PLUGIN_AUTOGEN_CHECK(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
        sharedBytes = maxOf(0, limit - static_cast<int64_t>(attributes.sharedSizeBytes));
    }
    if (sharedBytes + static_cast<int64_t>(attributes.sharedSizeBytes) <= 49152)
    {
        return cudaSuccess;
    }
    return cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(minOf(sharedBytes, 2147483647)));
}

} // namespace

#endif // PLUGIN_AUTOGEN_RUNTIME_H
