// The plugin interface of TensorRT 8: IPluginV2DynamicExt and IPluginCreator, declared with the layout that holds
// for the releases 8.2 to 8.6 (x86-64 and aarch64, Itanium C++ ABI). TensorRT 10 has 64-bit dimensions and needs its
// own headers for this interface.
//
// Only the order and the signatures of virtual functions, the order of members and the numbers of enumerators matter:
// a library compiled against this file is called by TensorRT through them. Do not reorder anything.
#ifndef PLUGIN_AUTOGEN_NVINFER_PLUGIN_V2_H
#define PLUGIN_AUTOGEN_NVINFER_PLUGIN_V2_H

#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>

struct cublasContext;
struct cudnnContext;

namespace nvinfer1
{

using AsciiChar = char;

// The oldest release that this layout holds for, as getInferLibVersion() counts in TensorRT 8.
constexpr int32_t kDECLARED_RELEASE = 8200;

class IGpuAllocator;

enum class DataType : int32_t
{
    kFLOAT = 0,
    kHALF = 1,
    kINT8 = 2,
    kINT32 = 3,
    kBOOL = 4, // not at the border of a V2 plugin
};

// kLINEAR is row-major without padding; the vectorized formats (1 and up) are never asked for here.
enum class TensorFormat : int32_t
{
    kLINEAR = 0,
};
using PluginFormat = TensorFormat;

class Dims32
{
public:
    static constexpr int32_t MAX_DIMS{8};
    int32_t nbDims; // -1: unknown rank
    int32_t d[MAX_DIMS]; // -1: known at run time only
};
using Dims = Dims32;

struct PluginTensorDesc
{
    Dims dims;
    DataType type;
    TensorFormat format;
    float scale; // of int8 tensors
};

struct DynamicPluginTensorDesc
{
    PluginTensorDesc desc;
    Dims min;
    Dims max;
};

enum class DimensionOperation : int32_t
{
    kSUM = 0,
    kPROD = 1,
    kMAX = 2,
    kMIN = 3,
    kSUB = 4,
    kEQUAL = 5,
    kLESS = 6,
    kFLOOR_DIV = 7,
    kCEIL_DIV = 8,
};

class IDimensionExpr;

// What the public classes forward to, inside TensorRT.
namespace apiv
{

class VRoot
{
public:
    virtual ~VRoot() noexcept = default;
};

class VDimensionExpr : public VRoot
{
public:
    virtual bool isConstant() const = 0;
    virtual int32_t getConstantValue() const = 0;
};

class VExprBuilder : public VRoot
{
public:
    virtual IDimensionExpr const* constant(int32_t value) = 0;
    virtual IDimensionExpr const* operation(
        DimensionOperation op, IDimensionExpr const& first, IDimensionExpr const& second) = 0;
};

} // namespace apiv

class IDimensionExpr
{
public:
    bool isConstant() const noexcept
    {
        return mImpl->isConstant();
    }
    int32_t getConstantValue() const noexcept
    {
        return mImpl->getConstantValue();
    }
    IDimensionExpr(IDimensionExpr const&) = delete;
    IDimensionExpr& operator=(IDimensionExpr const&) = delete;

protected:
    IDimensionExpr() = default;
    virtual ~IDimensionExpr() noexcept = default;
    apiv::VDimensionExpr* mImpl;
};

class IExprBuilder
{
public:
    IDimensionExpr const* constant(int32_t value) noexcept
    {
        return mImpl->constant(value);
    }
    IDimensionExpr const* operation(
        DimensionOperation op, IDimensionExpr const& first, IDimensionExpr const& second) noexcept
    {
        return mImpl->operation(op, first, second);
    }
    IExprBuilder(IExprBuilder const&) = delete;
    IExprBuilder& operator=(IExprBuilder const&) = delete;

protected:
    IExprBuilder() = default;
    virtual ~IExprBuilder() noexcept = default;
    apiv::VExprBuilder* mImpl;
};

class DimsExprs
{
public:
    int32_t nbDims;
    IDimensionExpr const* d[Dims::MAX_DIMS];
};

// Copies of plugins and creators are the implementer's business; the bases hold nothing but their virtual table.
class IPluginV2
{
public:
    virtual int32_t getTensorRTVersion() const noexcept
    {
        return kDECLARED_RELEASE;
    }
    virtual AsciiChar const* getPluginType() const noexcept = 0;
    virtual AsciiChar const* getPluginVersion() const noexcept = 0;
    virtual int32_t getNbOutputs() const noexcept = 0;
    virtual Dims getOutputDimensions(int32_t index, Dims const* inputs, int32_t nbInputDims) noexcept = 0;
    virtual bool supportsFormat(DataType type, PluginFormat format) const noexcept = 0;
    virtual void configureWithFormat(Dims const* inputDims, int32_t nbInputs, Dims const* outputDims, int32_t nbOutputs,
        DataType type, PluginFormat format, int32_t maxBatchSize) noexcept = 0;
    virtual int32_t initialize() noexcept = 0;
    virtual void terminate() noexcept = 0;
    virtual size_t getWorkspaceSize(int32_t maxBatchSize) const noexcept = 0;
    virtual int32_t enqueue(int32_t batchSize, void const* const* inputs, void* const* outputs, void* workspace,
        cudaStream_t stream) noexcept = 0;
    virtual size_t getSerializationSize() const noexcept = 0;
    virtual void serialize(void* buffer) const noexcept = 0;
    virtual void destroy() noexcept = 0;
    virtual IPluginV2* clone() const noexcept = 0;
    virtual void setPluginNamespace(AsciiChar const* pluginNamespace) noexcept = 0;
    virtual AsciiChar const* getPluginNamespace() const noexcept = 0;
    virtual ~IPluginV2() noexcept = default;
};

class IPluginV2Ext : public IPluginV2
{
public:
    virtual DataType getOutputDataType(
        int32_t index, DataType const* inputTypes, int32_t nbInputs) const noexcept = 0;
    virtual bool isOutputBroadcastAcrossBatch(
        int32_t outputIndex, bool const* inputIsBroadcasted, int32_t nbInputs) const noexcept = 0;
    virtual bool canBroadcastInputAcrossBatch(int32_t inputIndex) const noexcept = 0;
    virtual void configurePlugin(Dims const* inputDims, int32_t nbInputs, Dims const* outputDims, int32_t nbOutputs,
        DataType const* inputTypes, DataType const* outputTypes, bool const* inputIsBroadcast,
        bool const* outputIsBroadcast, PluginFormat floatFormat, int32_t maxBatchSize) noexcept = 0;
    virtual void attachToContext(cudnnContext*, cublasContext*, IGpuAllocator*) noexcept {}
    virtual void detachFromContext() noexcept {}
    IPluginV2Ext* clone() const noexcept override = 0;

protected:
    void configureWithFormat(
        Dims const*, int32_t, Dims const*, int32_t, DataType, PluginFormat, int32_t) noexcept override
    {
    }
};

// Every function of the static-shape interfaces that a dynamic one does not use is closed here.
class IPluginV2DynamicExt : public IPluginV2Ext
{
public:
    IPluginV2DynamicExt* clone() const noexcept override = 0;
    virtual DimsExprs getOutputDimensions(
        int32_t outputIndex, DimsExprs const* inputs, int32_t nbInputs, IExprBuilder& exprBuilder) noexcept = 0;
    static constexpr int32_t kFORMAT_COMBINATION_LIMIT = 100;
    virtual bool supportsFormatCombination(
        int32_t pos, PluginTensorDesc const* inOut, int32_t nbInputs, int32_t nbOutputs) noexcept = 0;
    virtual void configurePlugin(DynamicPluginTensorDesc const* in, int32_t nbInputs,
        DynamicPluginTensorDesc const* out, int32_t nbOutputs) noexcept = 0;
    virtual size_t getWorkspaceSize(PluginTensorDesc const* inputs, int32_t nbInputs, PluginTensorDesc const* outputs,
        int32_t nbOutputs) const noexcept = 0;
    virtual int32_t enqueue(PluginTensorDesc const* inputDesc, PluginTensorDesc const* outputDesc,
        void const* const* inputs, void* const* outputs, void* workspace, cudaStream_t stream) noexcept = 0;

protected:
    // The top byte says which of the V2 interfaces this is; TensorRT finds out the class in this way.
    int32_t getTensorRTVersion() const noexcept override
    {
        return (3 << 24) | kDECLARED_RELEASE;
    }

private:
    void configurePlugin(Dims const*, int32_t, Dims const*, int32_t, DataType const*, DataType const*, bool const*,
        bool const*, PluginFormat, int32_t) noexcept final
    {
    }
    bool supportsFormat(DataType, PluginFormat) const noexcept final
    {
        return false;
    }
    Dims getOutputDimensions(int32_t, Dims const*, int32_t) noexcept final
    {
        return Dims{-1, {}};
    }
    bool isOutputBroadcastAcrossBatch(int32_t, bool const*, int32_t) const noexcept final
    {
        return false;
    }
    bool canBroadcastInputAcrossBatch(int32_t) const noexcept final
    {
        return true;
    }
    size_t getWorkspaceSize(int32_t) const noexcept final
    {
        return 0;
    }
    int32_t enqueue(int32_t, void const* const*, void* const*, void*, cudaStream_t) noexcept final
    {
        return 1;
    }
};

enum class PluginFieldType : int32_t
{
    kFLOAT16 = 0,
    kFLOAT32 = 1,
    kFLOAT64 = 2,
    kINT8 = 3,
    kINT16 = 4,
    kINT32 = 5,
    kCHAR = 6,
    kDIMS = 7,
    kUNKNOWN = 8,
};

class PluginField
{
public:
    AsciiChar const* name;
    void const* data;
    PluginFieldType type;
    int32_t length; // in elements

    PluginField(AsciiChar const* name_ = nullptr, void const* data_ = nullptr,
        PluginFieldType type_ = PluginFieldType::kUNKNOWN, int32_t length_ = 0) noexcept
        : name(name_)
        , data(data_)
        , type(type_)
        , length(length_)
    {
    }
};

struct PluginFieldCollection
{
    int32_t nbFields;
    PluginField const* fields;
};

class IPluginCreator
{
public:
    virtual int32_t getTensorRTVersion() const noexcept
    {
        return kDECLARED_RELEASE;
    }
    virtual AsciiChar const* getPluginName() const noexcept = 0;
    virtual AsciiChar const* getPluginVersion() const noexcept = 0;
    virtual PluginFieldCollection const* getFieldNames() noexcept = 0;
    virtual IPluginV2* createPlugin(AsciiChar const* name, PluginFieldCollection const* fc) noexcept = 0;
    virtual IPluginV2* deserializePlugin(
        AsciiChar const* name, void const* serialData, size_t serialLength) noexcept = 0;
    virtual void setPluginNamespace(AsciiChar const* pluginNamespace) noexcept = 0;
    virtual AsciiChar const* getPluginNamespace() const noexcept = 0;
    virtual ~IPluginCreator() = default;
};

} // namespace nvinfer1

#endif // PLUGIN_AUTOGEN_NVINFER_PLUGIN_V2_H
