// Host-side parts of a plugin that do not depend on what it computes: messages, device memory for constants, and size
// expressions in TensorRT's own form. The same for every plugin. Include nvinfer_interface.h first.
#ifndef PLUGIN_AUTOGEN_SUPPORT_H
#define PLUGIN_AUTOGEN_SUPPORT_H

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>

#include "basics.h"

// The numbers of nvinfer1::ILogger::Severity.
enum PluginAutogenSeverity : int32_t
{
    PLUGIN_AUTOGEN_ERROR = 1,
    PLUGIN_AUTOGEN_WARNING = 2,
};

// Defined once in each library, in library.cpp: TensorRT's logger where the library was given one, else stderr.
extern "C" PLUGIN_AUTOGEN_HIDDEN void plugin_autogen_log(int32_t severity, char const* message) noexcept;

namespace
{

constexpr int32_t kMaxRank = nvinfer1::Dims::MAX_DIMS;

// One line to the log, "<plugin>: <message>".
__attribute__((format(printf, 3, 0))) inline void logLine(
    int32_t severity, char const* plugin, char const* format, std::va_list arguments) noexcept
{
    char line[512];
    int const written = std::snprintf(line, sizeof(line), "%s: ", plugin);
    size_t const length = written < 0 ? 0 : static_cast<size_t>(written);
    size_t const prefix = length < sizeof(line) ? length : sizeof(line) - 1;
    std::vsnprintf(line + prefix, sizeof(line) - prefix, format, arguments);
    plugin_autogen_log(severity, line);
}

__attribute__((format(printf, 2, 3))) inline void logError(char const* plugin, char const* format, ...) noexcept
{
    std::va_list arguments;
    va_start(arguments, format);
    logLine(PLUGIN_AUTOGEN_ERROR, plugin, format, arguments);
    va_end(arguments);
}

__attribute__((format(printf, 2, 3))) inline void logWarning(char const* plugin, char const* format, ...) noexcept
{
    std::va_list arguments;
    va_start(arguments, format);
    logLine(PLUGIN_AUTOGEN_WARNING, plugin, format, arguments);
    va_end(arguments);
}

// Where a symbol's value comes from: dimension `axis` of tensor `tensor`. Kernels are made for values up to `limit`.
struct SymbolSource
{
    int32_t tensor;
    int32_t axis;
    int64_t limit;
};

// How two sizes go together.
enum class SizeRelation : int32_t
{
    kEqual,
    kEqualOrOne, // the first one may be 1
    kAtMost,     // the first one is not larger
};

// Compares two sizes that ONNX wants to go together; a line in the log where they do not.
inline bool checkSize(
    char const* plugin, int64_t size, int64_t other, SizeRelation relation, char const* source, char const* reason)
{
    if (size == other || (relation == SizeRelation::kEqualOrOne && size == 1)
        || (relation == SizeRelation::kAtMost && size < other))
    {
        return true;
    }
    logError(plugin, "%s is %lld, it must be %s%lld%s, %s", source, static_cast<long long>(size),
        relation == SizeRelation::kAtMost ? "at most " : "", static_cast<long long>(other),
        relation == SizeRelation::kEqualOrOne ? " or 1" : "", reason);
    return false;
}

// One implementation of the plugin. `types` holds inputs, then outputs; `sizes` the values of all symbols that it is made
// for, or nullptr where it takes any.
struct Variant
{
    nvinfer1::DataType const* types;
    int64_t const* sizes;
    int64_t (*workspaceBytes)(int64_t const* symbols);
    int32_t (*prepare)();
    int32_t (*enqueue)(int64_t const* symbols, void const* const* inputs, void* const* outputs, void* constants,
        void* workspace, cudaStream_t stream);
};

// Size expressions as TensorRT wants them. An operand that could not be built (nullptr) makes the result nullptr.
class ExpressionBuilder
{
public:
    using Expression = nvinfer1::IDimensionExpr const*;
    using Operation = nvinfer1::DimensionOperation;

    ExpressionBuilder(
        nvinfer1::IExprBuilder& builder, nvinfer1::DimsExprs const* inputs, nvinfer1::DimsExprs const* shapeInputs)
        : mBuilder(builder)
        , mInputs(inputs)
        , mShapeInputs(shapeInputs)
    {
    }
    Expression dimension(int32_t input, int32_t axis)
    {
        return mInputs[input].d[axis];
    }
    Expression shapeValue(int32_t shapeInput, int32_t index)
    {
        return mShapeInputs[shapeInput].d[index];
    }
    Expression constant(int64_t value)
    {
        return mBuilder.constant(value);
    }
    Expression sum(Expression a, Expression b)
    {
        return apply(Operation::kSUM, a, b);
    }
    Expression difference(Expression a, Expression b)
    {
        return apply(Operation::kSUB, a, b);
    }
    Expression product(Expression a, Expression b)
    {
        return apply(Operation::kPROD, a, b);
    }
    Expression maximum(Expression a, Expression b)
    {
        return apply(Operation::kMAX, a, b);
    }
    Expression minimum(Expression a, Expression b)
    {
        return apply(Operation::kMIN, a, b);
    }
    Expression floorDivide(Expression a, Expression b)
    {
        return apply(Operation::kFLOOR_DIV, a, b);
    }
    Expression modulo(Expression a, Expression b)
    {
        return difference(a, product(floorDivide(a, b), b));
    }
    Expression less(Expression a, Expression b)
    {
        return apply(Operation::kLESS, a, b);
    }
    Expression equal(Expression a, Expression b)
    {
        return apply(Operation::kEQUAL, a, b);
    }
    // The opposite of a condition that is 0 or 1.
    Expression negate(Expression condition)
    {
        return difference(constant(1), condition);
    }
    // `condition` is 0 or 1.
    Expression select(Expression condition, Expression a, Expression b)
    {
        return sum(product(condition, a), product(negate(condition), b));
    }
#if PLUGIN_AUTOGEN_INTERFACE == 3
    // A size of at most `upper` that `enqueue` writes to the output `output`. TensorRT times the plugin with half of it.
    Expression declareSize(int32_t output, Expression upper)
    {
        Expression const usual = floorDivide(sum(upper, constant(1)), constant(2));
        return usual == nullptr ? nullptr : mBuilder.declareSizeTensor(output, *usual, *upper);
    }
#endif

private:
    Expression apply(Operation operation, Expression a, Expression b)
    {
        return a == nullptr || b == nullptr ? nullptr : mBuilder.operation(operation, *a, *b);
    }

    nvinfer1::IExprBuilder& mBuilder;
    nvinfer1::DimsExprs const* mInputs;
    nvinfer1::DimsExprs const* mShapeInputs;
};

// Lets this thread allocate and free while another thread captures a CUDA graph.
class RelaxedCapture
{
public:
    RelaxedCapture()
    {
        cudaThreadExchangeStreamCaptureMode(&mMode);
    }
    ~RelaxedCapture()
    {
        cudaThreadExchangeStreamCaptureMode(&mMode);
    }
    RelaxedCapture(RelaxedCapture const&) = delete;
    RelaxedCapture& operator=(RelaxedCapture const&) = delete;

private:
    cudaStreamCaptureMode mMode{cudaStreamCaptureModeRelaxed};
};

// What a plugin keeps on one device: its constants, and its kernels made ready. One for each process and device, shared
// by all instances of the plugin, freed with the last of them.
class DeviceState
{
public:
    // Loads the kernels and uploads the constants in a stream of its own.
    DeviceState(int device, Variant const* variants, int32_t nbVariants, unsigned char const* constants, size_t bytes)
        : mDevice(device)
    {
        RelaxedCapture const relaxed;
        mStatus = prepare(variants, nbVariants);
        if (mStatus == cudaSuccess && bytes > 0)
        {
            mStatus = upload(constants, bytes);
        }
        if (mStatus != cudaSuccess)
        {
            cudaGetLastError();
        }
    }
    ~DeviceState()
    {
        if (mConstants == nullptr)
        {
            return;
        }
        RelaxedCapture const relaxed;
        int current = mDevice;
        cudaGetDevice(&current);
        if (current != mDevice)
        {
            cudaSetDevice(mDevice);
        }
        cudaFree(mConstants);
        if (current != mDevice)
        {
            cudaSetDevice(current);
        }
    }
    DeviceState(DeviceState const&) = delete;
    DeviceState& operator=(DeviceState const&) = delete;

    cudaError_t status() const
    {
        return mStatus;
    }
    void* constants() const
    {
        return mConstants;
    }

private:
    static cudaError_t prepare(Variant const* variants, int32_t nbVariants)
    {
        for (int32_t i = 0; i < nbVariants; ++i)
        {
            PLUGIN_AUTOGEN_CHECK(static_cast<cudaError_t>(variants[i].prepare()));
        }
        return cudaSuccess;
    }
    cudaError_t upload(unsigned char const* constants, size_t bytes)
    {
        PLUGIN_AUTOGEN_CHECK(cudaMalloc(&mConstants, bytes));
        cudaStream_t stream = nullptr;
        PLUGIN_AUTOGEN_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        cudaError_t status = cudaMemcpyAsync(mConstants, constants, bytes, cudaMemcpyHostToDevice, stream);
        if (status == cudaSuccess)
        {
            status = cudaStreamSynchronize(stream);
        }
        cudaStreamDestroy(stream);
        return status;
    }

    int mDevice;
    void* mConstants{nullptr};
    cudaError_t mStatus{cudaSuccess};
};

} // namespace

#endif // PLUGIN_AUTOGEN_SUPPORT_H
