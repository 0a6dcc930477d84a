// As much of TensorRT as examples/cpp uses, running on the host: an engine is the text "doubles", its output `y` is twice
// its input `x` of shape [-1, 3], float32. Names and signatures are those of NVIDIA's headers of the release that
// NV_TENSORRT_MAJOR and NV_TENSORRT_MINOR name; functions of other releases are missing.
#ifndef HOST_TENSORRT_NV_INFER_RUNTIME_H
#define HOST_TENSORRT_NV_INFER_RUNTIME_H

#include <cstdint>
#include <cstring>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#define HOST_TENSORRT_RELEASE (NV_TENSORRT_MAJOR * 100 + NV_TENSORRT_MINOR)

namespace nvinfer1
{

using AsciiChar = char;

#if HOST_TENSORRT_RELEASE >= 1000
using Size = int64_t;
#else
using Size = int32_t;
#endif

struct Dims
{
    static constexpr int32_t MAX_DIMS{8};
    int32_t nbDims;
    Size d[MAX_DIMS];
};

enum class DataType : int32_t
{
    kFLOAT = 0,
    kHALF = 1,
    kINT8 = 2,
    kINT32 = 3,
#if HOST_TENSORRT_RELEASE >= 1000
    kBF16 = 7,
    kINT64 = 8,
#endif
};

enum class TensorIOMode : int32_t
{
    kNONE = 0,
    kINPUT = 1,
    kOUTPUT = 2,
};

class ILogger
{
public:
    enum class Severity : int32_t
    {
        kINTERNAL_ERROR = 0,
        kERROR = 1,
        kWARNING = 2,
    };
    virtual void log(Severity severity, AsciiChar const* msg) noexcept = 0;
    virtual ~ILogger() = default;
};

class IExecutionContext
{
public:
    virtual ~IExecutionContext() noexcept = default;
#if HOST_TENSORRT_RELEASE >= 805
    bool setInputShape(char const* tensorName, Dims const& dims) noexcept
    {
        return std::strcmp(tensorName, "x") == 0 && setShape(dims);
    }
    Dims getTensorShape(char const*) const noexcept
    {
        return mShape;
    }
    bool setTensorAddress(char const* tensorName, void* data) noexcept
    {
        mMemory[std::strcmp(tensorName, "x") == 0 ? 0 : 1] = data;
        return true;
    }
    bool enqueueV3(cudaStream_t) noexcept
    {
        return compute();
    }
#else
    bool setBindingDimensions(int32_t bindingIndex, Dims dimensions) noexcept
    {
        return bindingIndex == 0 && setShape(dimensions);
    }
    Dims getBindingDimensions(int32_t) const noexcept
    {
        return mShape;
    }
    bool enqueueV2(void* const* bindings, cudaStream_t, cudaEvent_t*) noexcept
    {
        mMemory[0] = bindings[0];
        mMemory[1] = bindings[1];
        return compute();
    }
#endif

private:
    bool setShape(Dims const& dims)
    {
        if (dims.nbDims != 2 || dims.d[1] != 3)
        {
            return false;
        }
        mShape = dims;
        return true;
    }
    bool compute()
    {
        auto const* const x = static_cast<float const*>(mMemory[0]);
        auto* const y = static_cast<float*>(mMemory[1]);
        for (int64_t i = 0; i < mShape.d[0] * mShape.d[1]; ++i)
        {
            y[i] = 2 * x[i];
        }
        return true;
    }
    Dims mShape{2, {-1, 3}};
    void* mMemory[2]{};
};

class ICudaEngine
{
public:
    virtual ~ICudaEngine() noexcept = default;
    IExecutionContext* createExecutionContext() noexcept
    {
        return new IExecutionContext;
    }
#if HOST_TENSORRT_RELEASE >= 805
    int32_t getNbIOTensors() const noexcept
    {
        return 2;
    }
    char const* getIOTensorName(int32_t index) const noexcept
    {
        return index == 0 ? "x" : "y";
    }
    TensorIOMode getTensorIOMode(char const* tensorName) const noexcept
    {
        return std::strcmp(tensorName, "x") == 0 ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    }
    DataType getTensorDataType(char const*) const noexcept
    {
        return DataType::kFLOAT;
    }
#else
    int32_t getNbBindings() const noexcept
    {
        return 2;
    }
    char const* getBindingName(int32_t bindingIndex) const noexcept
    {
        return bindingIndex == 0 ? "x" : "y";
    }
    int32_t getBindingIndex(char const* name) const noexcept
    {
        return std::strcmp(name, "x") == 0 ? 0 : std::strcmp(name, "y") == 0 ? 1 : -1;
    }
    bool bindingIsInput(int32_t bindingIndex) const noexcept
    {
        return bindingIndex == 0;
    }
    DataType getBindingDataType(int32_t) const noexcept
    {
        return DataType::kFLOAT;
    }
#endif
};

#if HOST_TENSORRT_RELEASE >= 806
class IPluginRegistry
{
public:
    using PluginLibraryHandle = void*;
    PluginLibraryHandle loadLibrary(AsciiChar const* pluginPath) noexcept
    {
        return dlopen(pluginPath, RTLD_NOW);
    }
};
#endif

class IRuntime
{
public:
    virtual ~IRuntime() noexcept = default;
#if HOST_TENSORRT_RELEASE >= 806
    IPluginRegistry& getPluginRegistry() noexcept
    {
        return mRegistry;
    }
#endif
    ICudaEngine* deserializeCudaEngine(void const* blob, size_t size) noexcept
    {
        return size == 7 && std::memcmp(blob, "doubles", 7) == 0 ? new ICudaEngine : nullptr;
    }
#if HOST_TENSORRT_RELEASE >= 806

private:
    IPluginRegistry mRegistry;
#endif
};

inline IRuntime* createInferRuntime(ILogger& logger) noexcept
{
    logger.log(ILogger::Severity::kWARNING, "on the host");
    return new IRuntime;
}

} // namespace nvinfer1

#endif
