// As much of the CUDA runtime as examples/cpp uses, in host memory.
#ifndef HOST_TENSORRT_CUDA_RUNTIME_API_H
#define HOST_TENSORRT_CUDA_RUNTIME_API_H

#include <cstdlib>
#include <cstring>

typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;

enum cudaError_t
{
    cudaSuccess = 0,
    cudaErrorMemoryAllocation = 2,
};

enum cudaMemcpyKind
{
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
};

enum
{
    cudaStreamNonBlocking = 1,
};

inline char const* cudaGetErrorString(cudaError_t)
{
    return "an error";
}

inline cudaError_t cudaMalloc(void** devPtr, size_t size)
{
    *devPtr = std::malloc(size);
    return *devPtr == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

inline cudaError_t cudaFree(void* devPtr)
{
    std::free(devPtr);
    return cudaSuccess;
}

inline cudaError_t cudaMemcpyAsync(void* dst, void const* src, size_t count, cudaMemcpyKind, cudaStream_t)
{
    std::memcpy(dst, src, count);
    return cudaSuccess;
}

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t*, unsigned int)
{
    return cudaSuccess;
}

inline cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    return cudaSuccess;
}

inline cudaError_t cudaStreamDestroy(cudaStream_t)
{
    return cudaSuccess;
}

#endif
