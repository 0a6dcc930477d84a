// From the tensors that TensorRT hands over to the plan's symbols and variants, driven by the tables of plan.h.
// The same for every plugin. Include plan.h first.
#ifndef PLUGIN_AUTOGEN_BINDING_H
#define PLUGIN_AUTOGEN_BINDING_H

#include <cstring>

namespace
{

inline bool hasDevice() noexcept
{
    int device = 0;
    return cudaGetDevice(&device) == cudaSuccess;
}

// The state of the current device, or nullptr after a line in the log.
inline std::shared_ptr<DeviceState> acquireDeviceState() noexcept
{
    try
    {
        // Never destroyed: instances of the plugin may outlive static destructors.
        static auto& mutex = *new std::mutex;
        static auto& states = *new std::map<int, std::weak_ptr<DeviceState>>;

        int device = 0;
        cudaError_t const status = cudaGetDevice(&device);
        if (status != cudaSuccess)
        {
            logError(kPluginName, "no CUDA device: %s", cudaGetErrorString(status));
            return nullptr;
        }
        std::lock_guard<std::mutex> const lock(mutex);
        std::shared_ptr<DeviceState> state = states[device].lock();
        if (!state)
        {
            state = std::make_shared<DeviceState>(
                device, kVariants, kNbVariants, constantData(), kConstantBytes);
            if (state->status() != cudaSuccess)
            {
                logError(kPluginName, "cannot prepare kernels and constants on device %d: %s", device,
                    cudaGetErrorString(state->status()));
                return nullptr;
            }
            states[device] = state;
        }
        return state;
    }
    catch (std::exception const& error)
    {
        logError(kPluginName, "%s", error.what());
        return nullptr;
    }
}

inline nvinfer1::PluginTensorDesc const& descOf(nvinfer1::PluginTensorDesc const& tensor)
{
    return tensor;
}

inline nvinfer1::PluginTensorDesc const& descOf(nvinfer1::DynamicPluginTensorDesc const& tensor)
{
    return tensor.desc;
}

// The first variant whose types are those of the `count` tensors from the first input on, or -1.
template <typename TypeOf>
int32_t findVariant(TypeOf const& typeOf, int32_t count)
{
    for (int32_t v = 0; v < kNbVariants; ++v)
    {
        int32_t i = 0;
        while (i < count && typeOf(i) == kVariants[v].types[i])
        {
            ++i;
        }
        if (i == count)
        {
            return v;
        }
    }
    return -1;
}

// The variant for the types of all inputs and outputs, or -1.
template <typename Desc>
int32_t findVariant(Desc const* in, Desc const* out)
{
    return findVariant(
        [in, out](int32_t i) { return i < kNbInputs ? descOf(in[i]).type : descOf(out[i - kNbInputs]).type; },
        kNbTensors);
}

// The variant for these input types. There may be none that takes them as they are: the builder converts (float32 to
// float16, say), or finds no format combination and refuses.
inline int32_t variantForInputs(nvinfer1::DataType const* inputTypes)
{
    int32_t const variant = findVariant([inputTypes](int32_t i) { return inputTypes[i]; }, kNbInputs);
    if (variant < 0)
    {
        logWarning(kPluginName, "the inputs have types that the plugin was not generated for");
    }
    return variant < 0 ? 0 : variant;
}

// Whether some variant takes these types, in row-major order, up to and including tensor `pos`.
template <typename Desc>
bool supportsCombination(int32_t pos, Desc const* inOut, int32_t nbInputs, int32_t nbOutputs)
{
    return nbInputs == kNbInputs && nbOutputs == kNbOutputs && pos >= 0 && pos < kNbTensors
        && descOf(inOut[pos]).format == nvinfer1::TensorFormat::kLINEAR
        && findVariant([inOut](int32_t i) { return descOf(inOut[i]).type; }, pos + 1) >= 0;
}

inline bool checkCounts(int32_t nbInputs, int32_t nbOutputs)
{
    if (nbInputs == kNbInputs && nbOutputs == kNbOutputs)
    {
        return true;
    }
    logError(kPluginName, "%d inputs and %d outputs given, the plugin has %d and %d", static_cast<int>(nbInputs),
        static_cast<int>(nbOutputs), static_cast<int>(kNbInputs), static_cast<int>(kNbOutputs));
    return false;
}

inline bool checkRank(int32_t tensor, int32_t rank)
{
    if (rank == kRanks[tensor])
    {
        return true;
    }
    logError(kPluginName, "%s %d has rank %d, the plugin was generated for rank %d",
        tensor < kNbInputs ? "input" : "output", static_cast<int>(tensor < kNbInputs ? tensor : tensor - kNbInputs),
        static_cast<int>(rank), static_cast<int>(kRanks[tensor]));
    return false;
}

// TensorRT-RTX 1.7 describes a scalar as one element along one axis when an engine runs.
inline bool checkRank(int32_t tensor, nvinfer1::Dims const& dims)
{
    return (kRanks[tensor] == 0 && dims.nbDims == 1 && dims.d[0] == 1) || checkRank(tensor, dims.nbDims);
}

inline bool checkDimension(int32_t tensor, int32_t axis, int64_t given, int64_t expected)
{
    if (given == expected)
    {
        return true;
    }
    if (kStaticDimensions[tensor][axis] < 0)
    {
        logError(kPluginName, "dimension %d of %s %d is %lld, it must be %lld, for the dimensions of the other tensors",
            static_cast<int>(axis), tensor < kNbInputs ? "input" : "output",
            static_cast<int>(tensor < kNbInputs ? tensor : tensor - kNbInputs), static_cast<long long>(given),
            static_cast<long long>(expected));
        return false;
    }
    logError(kPluginName, "dimension %d of %s %d is %lld, the plugin was generated for %lld: regenerate it",
        static_cast<int>(axis), tensor < kNbInputs ? "input" : "output",
        static_cast<int>(tensor < kNbInputs ? tensor : tensor - kNbInputs), static_cast<long long>(given),
        static_cast<long long>(expected));
    return false;
}

// `dimsOf` gives the dimensions of a tensor.
template <typename DimsOf>
void readSymbols(DimsOf const& dimsOf, int64_t* symbols)
{
    for (int32_t i = 0; i < kNbSymbols; ++i)
    {
        symbols[i] = dimsOf(kSymbolSources[i].tensor).d[kSymbolSources[i].axis];
    }
}

// Indices of 32 bits must not overflow.
inline bool checkLimits(int64_t const* symbols)
{
    for (int32_t i = 0; i < kNbSymbols; ++i)
    {
        SymbolSource const& source = kSymbolSources[i];
        if (symbols[i] > source.limit)
        {
            logError(kPluginName,
                "dimension %d of input %d is %lld, the plugin was generated for sizes up to %lld: regenerate it with "
                "larger --maxShapes", static_cast<int>(source.axis), static_cast<int>(source.tensor),
                static_cast<long long>(symbols[i]), static_cast<long long>(source.limit));
            return false;
        }
    }
    return true;
}

// Ranks and known dimensions of inputs in the network, where a dimension may still be open.
inline bool checkExpressions(nvinfer1::DimsExprs const* inputs, int32_t nbInputs)
{
    if (!checkCounts(nbInputs, kNbOutputs))
    {
        return false;
    }
    for (int32_t t = 0; t < kNbInputs; ++t)
    {
        if (!checkRank(t, inputs[t].nbDims))
        {
            return false;
        }
        for (int32_t axis = 0; axis < kRanks[t]; ++axis)
        {
            nvinfer1::IDimensionExpr const* const dimension = inputs[t].d[axis];
            if (dimension == nullptr)
            {
                logError(kPluginName, "dimension %d of input %d is missing", static_cast<int>(axis), static_cast<int>(t));
                return false;
            }
            if (kStaticDimensions[t][axis] >= 0 && dimension->isConstant()
                && !checkDimension(t, axis, dimension->getConstantValue(), kStaticDimensions[t][axis]))
            {
                return false;
            }
        }
    }
    return true;
}

// The shape tensors in the network: TensorRT gives their values as if they were dimensions.
inline bool checkShapeInputs(nvinfer1::DimsExprs const* shapeInputs, int32_t nbShapeInputs)
{
    if (nbShapeInputs != kNbShapeInputs)
    {
        logError(kPluginName, "%d shape tensors given, the plugin has %d", static_cast<int>(nbShapeInputs),
            static_cast<int>(kNbShapeInputs));
        return false;
    }
    for (int32_t i = 0; i < kNbShapeInputs; ++i)
    {
        if (shapeInputs[i].nbDims != kShapeLengths[i])
        {
            logError(kPluginName, "shape tensor %d has %d values, the plugin was generated for %d",
                static_cast<int>(i), static_cast<int>(shapeInputs[i].nbDims), static_cast<int>(kShapeLengths[i]));
            return false;
        }
    }
    return true;
}

// All output dimensions in TensorRT's form.
inline bool outputExpressions(nvinfer1::DimsExprs const* inputs, int32_t nbInputs,
    nvinfer1::DimsExprs const* shapeInputs, int32_t nbShapeInputs, nvinfer1::DimsExprs* outputs,
    nvinfer1::IExprBuilder& builder)
{
    if (!checkExpressions(inputs, nbInputs) || !checkShapeInputs(shapeInputs, nbShapeInputs))
    {
        return false;
    }
    ExpressionBuilder e(builder, inputs, shapeInputs);
    describeOutputs(e, outputs);
    for (int32_t t = 0; t < kNbOutputs; ++t)
    {
        outputs[t].nbDims = kRanks[kNbInputs + t];
        for (int32_t axis = 0; axis < outputs[t].nbDims; ++axis)
        {
            if (outputs[t].d[axis] == nullptr)
            {
                logError(kPluginName, "TensorRT cannot express dimension %d of output %d", static_cast<int>(axis),
                    static_cast<int>(t));
                return false;
            }
        }
    }
    return true;
}

// A profile: the range of every static dimension is that one value, and the others stay within the limits.
inline bool checkRanges(nvinfer1::DynamicPluginTensorDesc const* in, int32_t nbInputs,
    nvinfer1::DynamicPluginTensorDesc const* out, int32_t nbOutputs)
{
    if (!checkCounts(nbInputs, nbOutputs))
    {
        return false;
    }
    for (int32_t t = 0; t < kNbInputs; ++t)
    {
        if (!checkRank(t, in[t].desc.dims))
        {
            return false;
        }
        for (int32_t axis = 0; axis < kRanks[t]; ++axis)
        {
            int64_t const expected = kStaticDimensions[t][axis];
            int64_t const given = in[t].desc.dims.d[axis];
            if (expected < 0)
            {
                continue;
            }
            bool const right = given >= 0 ? checkDimension(t, axis, given, expected)
                                          : checkDimension(t, axis, in[t].min.d[axis], expected)
                    && checkDimension(t, axis, in[t].max.d[axis], expected);
            if (!right)
            {
                return false;
            }
        }
    }
    int64_t symbols[kNbSymbols > 0 ? kNbSymbols : 1]{};
    readSymbols(
        [in, out](int32_t t) -> nvinfer1::Dims const& { return t < kNbInputs ? in[t].max : out[t - kNbInputs].max; },
        symbols);
    return checkLimits(symbols);
}

// The shapes of one execution: reads the symbols and compares every dimension with the plan.
inline bool bindShapes(
    nvinfer1::PluginTensorDesc const* in, nvinfer1::PluginTensorDesc const* out, int64_t* symbols)
{
    auto const dimsOf = [in, out](int32_t t) -> nvinfer1::Dims const& {
        return t < kNbInputs ? in[t].dims : out[t - kNbInputs].dims;
    };
    for (int32_t t = 0; t < kNbTensors; ++t)
    {
        if (!checkRank(t, dimsOf(t)))
        {
            return false;
        }
    }
    readSymbols(dimsOf, symbols);
    if (!checkLimits(symbols) || !checkSizes(symbols))
    {
        return false;
    }
    int64_t shapes[kNbTensors][kMaxRank];
    describeShapes(symbols, shapes);
    for (int32_t t = 0; t < kNbTensors; ++t)
    {
        nvinfer1::Dims const& given = dimsOf(t);
        for (int32_t axis = 0; axis < kRanks[t]; ++axis)
        {
            // Nobody knows before the kernels have run what the data decide.
            if (shapes[t][axis] >= 0 && !checkDimension(t, axis, given.d[axis], shapes[t][axis]))
            {
                return false;
            }
        }
    }
    return true;
}

inline bool haveSameTypes(int32_t a, int32_t b)
{
    for (int32_t i = 0; i < kNbTensors; ++i)
    {
        if (kVariants[a].types[i] != kVariants[b].types[i])
        {
            return false;
        }
    }
    return true;
}

// The variant itself, or one with its types that is made for these very sizes.
inline int32_t specialized(int32_t variant, int64_t const* symbols)
{
    for (int32_t v = 0; v < kNbVariants; ++v)
    {
        int64_t const* const sizes = kVariants[v].sizes;
        int32_t i = 0;
        while (sizes != nullptr && i < kNbSymbols && sizes[i] == symbols[i])
        {
            ++i;
        }
        if (sizes != nullptr && i == kNbSymbols && haveSameTypes(v, variant))
        {
            return v;
        }
    }
    return variant;
}

// Bytes of workspace for symbols up to these: of all variants with the types of one, or with -1 of all.
inline size_t workspaceBytes(int32_t variant, int64_t const* symbols)
{
    int64_t bytes = 0;
    for (int32_t v = 0; v < kNbVariants; ++v)
    {
        if (variant < 0 || haveSameTypes(variant, v))
        {
            bytes = maxOf(bytes, kVariants[v].workspaceBytes(symbols));
        }
    }
    return static_cast<size_t>(bytes);
}

// One execution. 0, or a CUDA error code after a line in the log; everything is checked before the first launch.
inline int32_t execute(DeviceState const* state, nvinfer1::PluginTensorDesc const* inputDesc,
    nvinfer1::PluginTensorDesc const* outputDesc, void const* const* inputs, void* const* outputs, void* workspace,
    cudaStream_t stream)
{
    if (state == nullptr)
    {
        logError(kPluginName, "enqueue without the constants: the plugin was not initialized");
        return cudaErrorInitializationError;
    }
    int64_t symbols[kNbSymbols > 0 ? kNbSymbols : 1]{};
    if (!bindShapes(inputDesc, outputDesc, symbols))
    {
        return cudaErrorInvalidValue;
    }
    int32_t const variant = findVariant(inputDesc, outputDesc);
    if (variant < 0)
    {
        logError(kPluginName, "enqueue with types that the plugin was not generated for");
        return cudaErrorInvalidValue;
    }
    int32_t const status
        = kVariants[specialized(variant, symbols)].enqueue(symbols, inputs, outputs, state->constants(), workspace, stream);
    if (status != cudaSuccess)
    {
        logError(kPluginName, "a kernel launch failed: %s", cudaGetErrorString(static_cast<cudaError_t>(status)));
    }
    return status;
}

// Compares a fingerprint of `length` characters with the library's; `remedy` ends the line in the log.
inline bool checkFingerprint(void const* data, size_t length, char const* remedy)
{
    if (data != nullptr && length >= kFingerprintLength && std::memcmp(data, kFingerprint, kFingerprintLength) == 0
        && (length == kFingerprintLength || static_cast<char const*>(data)[kFingerprintLength] == '\0'))
    {
        return true;
    }
    logError(kPluginName, "%s", remedy);
    return false;
}

constexpr char kFingerprintField[] = "fingerprint";

// The field of that name, or nullptr.
inline nvinfer1::PluginField const* findFingerprint(nvinfer1::PluginFieldCollection const* fields)
{
    for (int32_t i = 0; fields != nullptr && i < fields->nbFields; ++i)
    {
        if (fields->fields[i].name != nullptr && std::strcmp(fields->fields[i].name, kFingerprintField) == 0)
        {
            return &fields->fields[i];
        }
    }
    return nullptr;
}

// The optional attribute of the ONNX node.
inline bool checkModelFingerprint(nvinfer1::PluginFieldCollection const* fields)
{
    nvinfer1::PluginField const* const field = findFingerprint(fields);
    return field == nullptr
        || checkFingerprint(field->data, field->length < 0 ? 0 : static_cast<size_t>(field->length),
            "the library was generated for another model: regenerate it together with the ONNX file");
}

constexpr char kEngineRemedy[]
    = "the engine was built with another version of this plugin: rebuild the engine or use the library it was built with";

} // namespace

#endif // PLUGIN_AUTOGEN_BINDING_H
