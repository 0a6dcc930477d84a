// CUDA C++ for g++: what nvcc declares in every .cu file, emulated on the CPU. For tests; never shipped.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

#include <math.h>
#include <stdlib.h>
#include <sys/types.h>

#include "cuda_runtime_api.h"

#include "cpu_cuda/device.h"
#include "cpu_cuda/math.h"

namespace cpu_cuda {

// Host code in the midst of checked device code.
#define CPU_CUDA_UNCHECKED __attribute__((no_sanitize("thread")))

template <typename... Parameters, std::size_t... Indices>
CPU_CUDA_UNCHECKED void invoke(void (*kernel)(Parameters...), void** arguments, std::index_sequence<Indices...>) {
    (void)arguments;  // a kernel without parameters
    kernel(*static_cast<std::remove_reference_t<Parameters>*>(arguments[Indices])...);
}

template <typename... Parameters>
CPU_CUDA_UNCHECKED void invokeErased(const void* kernel, void** arguments) {
    invoke(reinterpret_cast<void (*)(Parameters...)>(const_cast<void*>(kernel)), arguments,
           std::index_sequence_for<Parameters...>());
}

}  // namespace cpu_cuda

// The arguments are unpacked by the kernel's own signature, as nvcc's stub does.
template <typename... Parameters>
cudaError_t cudaLaunchKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, void** arguments,
                             size_t sharedBytes = 0, cudaStream_t stream = nullptr) {
    return cpuCudaLaunch(reinterpret_cast<const void*>(kernel), &cpu_cuda::invokeErased<Parameters...>, grid, block,
                         arguments, sharedBytes, stream);
}

template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute, int value) {
    return cpuCudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}

template <typename... Parameters>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*kernel)(Parameters...)) {
    return cpuCudaFuncGetAttributes(attributes, reinterpret_cast<const void*>(kernel));
}

template <typename T>
cudaError_t cudaMalloc(T** pointer, size_t size) {
    return cudaMalloc(reinterpret_cast<void**>(pointer), size);
}
