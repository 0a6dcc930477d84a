// Drives an IPluginV3 as TensorRT's builder and runtime do.
#define PLUGIN_AUTOGEN_INTERFACE 3
#define PLUGIN_AUTOGEN_TENSORRT_HEADERS 0
#include "nvinfer_interface.h"

#include <dlfcn.h>

#include <cstring>
#include <memory>
#include <thread>

#include "execution.h"
#include "expressions.h"

namespace driver {
namespace {

using namespace nvinfer1;

IPluginCreatorV3One* findCreator(void* library, const std::string& name) {
    using GetCreators = IPluginCreatorInterface* const* (*)(int32_t&);
    const auto getCreators = reinterpret_cast<GetCreators>(dlsym(library, "getCreators"));
    REQUIRE(getCreators != nullptr, "the library does not export getCreators");
    REQUIRE(dlsym(library, "setLoggerFinder") != nullptr, "the library does not export setLoggerFinder");
    int32_t count = 0;
    IPluginCreatorInterface* const* creators = getCreators(count);
    for (int32_t i = 0; i < count; ++i) {
        const InterfaceInfo info = creators[i]->getInterfaceInfo();
        REQUIRE(std::strcmp(info.kind, "PLUGIN CREATOR_V3ONE") == 0, "creator %d is a %s", i, info.kind);
        auto* const creator = static_cast<IPluginCreatorV3One*>(creators[i]);
        if (name == creator->getPluginName()) {
            REQUIRE(std::strcmp(creator->getPluginVersion(), "1") == 0, "the plugin's version is not 1");
            REQUIRE(std::strcmp(creator->getPluginNamespace(), "") == 0, "the plugin's namespace is not empty");
            REQUIRE(creator->getFieldNames() != nullptr, "the creator has no list of fields");
            return creator;
        }
    }
    fail("the library has no plugin %s", name.c_str());
}

template <typename Capability>
Capability& capability(IPluginV3& plugin, PluginCapabilityType type) {
    IPluginCapability* const found = plugin.getCapabilityInterface(type);
    REQUIRE(found != nullptr, "the plugin lacks capability %d", static_cast<int>(type));
    return static_cast<Capability&>(*found);
}

size_t elementBytes(int32_t type) {
    switch (static_cast<DataType>(type)) {
    case DataType::kINT8:
    case DataType::kBOOL:
    case DataType::kUINT8:
    case DataType::kFP8: return 1;
    case DataType::kHALF:
    case DataType::kBF16: return 2;
    case DataType::kFLOAT:
    case DataType::kINT32: return 4;
    case DataType::kINT64: return 8;
    default: fail("type %d has no whole bytes", type);
    }
}

PluginTensorDesc& plainDesc(DynamicPluginTensorDesc& tensor) { return tensor.desc; }

// What the builder does with a plugin, up to the workspace; fills in the outputs' ranges.
size_t build(IPluginV3& plugin, const Request& request, std::vector<Tensor>& outputs) {
    auto& core = capability<IPluginV3OneCore>(plugin, PluginCapabilityType::kCORE);
    auto& builder = capability<IPluginV3OneBuild>(plugin, PluginCapabilityType::kBUILD);
    REQUIRE(request.plugin == core.getPluginName(), "the plugin calls itself %s", core.getPluginName());
    const auto nbInputs = static_cast<int32_t>(request.inputs.size());
    const auto nbOutputs = static_cast<int32_t>(outputs.size());
    REQUIRE(builder.getNbOutputs() == nbOutputs, "the plugin has %d outputs, expected %d", builder.getNbOutputs(), nbOutputs);

    std::vector<DataType> inputTypes, outputTypes(outputs.size());
    for (const Tensor& tensor : request.inputs) inputTypes.push_back(static_cast<DataType>(tensor.type));
    REQUIRE(builder.getOutputDataTypes(outputTypes.data(), nbOutputs, inputTypes.data(), nbInputs) == 0,
            "getOutputDataTypes fails");
    for (size_t i = 0; i < outputs.size(); ++i) {
        REQUIRE(static_cast<int32_t>(outputTypes[i]) == outputs[i].type, "output %zu has type %d, expected %d", i,
                static_cast<int>(outputTypes[i]), outputs[i].type);
    }

    Expressions expressions;
    std::vector<DimsExprs> inputDims, shapeDims, outputDims(outputs.size());
    for (const Tensor& tensor : request.inputs) inputDims.push_back(expressions.input(tensor));
    for (const auto& values : request.shapes) shapeDims.push_back(expressions.values(values));
    for (size_t i = 0; i < outputs.size(); ++i) outputDims[i].nbDims = -1;
    REQUIRE(builder.getOutputShapes(inputDims.data(), nbInputs, shapeDims.data(), static_cast<int32_t>(shapeDims.size()),
                                    outputDims.data(), nbOutputs, expressions) == 0,
            "getOutputShapes fails");
    for (size_t i = 0; i < outputs.size(); ++i) {
        checkOutput(outputDims[i], outputs[i], i);
        if (outputs[i].decided.empty()) continue;
        outputs[i].bytes = elementBytes(outputs[i].type);
        for (size_t axis = 0; axis < outputs[i].dims.size(); ++axis) {
            outputs[i].bytes *= static_cast<size_t>(outputs[i].dims[axis]);
            if (!outputs[i].isDecided(axis)) continue;
            const Tensor& size = outputs.at(static_cast<size_t>(Expressions::sizeOutput(outputDims[i].d[axis])));
            REQUIRE(size.dims.empty() && size.type == static_cast<int32_t>(DataType::kINT64),
                    "the size of output %zu is no scalar of 64 bits", i);
        }
    }

    std::vector<DynamicPluginTensorDesc> tensors;
    for (const Tensor& tensor : request.inputs) tensors.push_back(describeDynamic(tensor));
    for (const Tensor& tensor : outputs) tensors.push_back(describeDynamic(tensor));
    checkFormats<DynamicPluginTensorDesc>(
        tensors,
        [&](int32_t position, const DynamicPluginTensorDesc* all) {
            return builder.supportsFormatCombination(position, all, nbInputs, nbOutputs);
        },
        &plainDesc);
    const DynamicPluginTensorDesc* const in = tensors.data();
    const DynamicPluginTensorDesc* const out = tensors.data() + nbInputs;
    REQUIRE(builder.configurePlugin(in, nbInputs, out, nbOutputs) == 0, "configurePlugin fails");
    REQUIRE(builder.getTimingCacheID() != nullptr, "getTimingCacheID is null");
    REQUIRE(builder.getNbTactics() >= 0, "getNbTactics is negative");
    return builder.getWorkspaceSize(in, nbInputs, out, nbOutputs);
}

}  // namespace

void drive(void* library, const Request& request, Response& response) {
    IPluginCreatorV3One* const creator = findCreator(library, request.plugin);
    std::vector<PluginField> nodeFields;
    if (!request.fingerprint.empty()) {
        nodeFields.emplace_back("fingerprint", request.fingerprint.data(), PluginFieldType::kCHAR,
                                static_cast<int32_t>(request.fingerprint.size()));
    }
    const PluginFieldCollection nodeCollection{static_cast<int32_t>(nodeFields.size()), nodeFields.data()};
    std::unique_ptr<IPluginV3> created(creator->createPlugin("node", &nodeCollection, TensorRTPhase::kBUILD));
    REQUIRE(created != nullptr, "createPlugin refuses to make the plugin for the builder");
    std::unique_ptr<IPluginV3> plugin(created->clone());
    REQUIRE(plugin != nullptr, "clone fails");
    created.reset();
    std::vector<Tensor> outputs = request.outputs;
    const size_t workspace = build(*plugin, request, outputs);
    response.workspace = static_cast<int64_t>(workspace);

    // Through the engine file: the fields are copied, the plugin is made anew.
    auto& built = capability<IPluginV3OneRuntime>(*plugin, PluginCapabilityType::kRUNTIME);
    const PluginFieldCollection* const serialized = built.getFieldsToSerialize();
    REQUIRE(serialized != nullptr, "getFieldsToSerialize is null");
    static const size_t kFieldBytes[] = {2, 4, 8, 1, 2, 4, 1, sizeof(Dims), 0};
    std::vector<std::vector<unsigned char>> contents;
    std::vector<std::string> names;
    for (int32_t i = 0; i < serialized->nbFields; ++i) {
        const PluginField& field = serialized->fields[i];
        const auto* const data = static_cast<const unsigned char*>(field.data);
        const size_t bytes = kFieldBytes[static_cast<int>(field.type)] * static_cast<size_t>(field.length);
        contents.emplace_back(data, data + bytes);
        names.emplace_back(field.name);
    }
    std::vector<PluginField> fields;
    for (int32_t i = 0; i < serialized->nbFields; ++i) {
        const PluginField& field = serialized->fields[i];
        fields.emplace_back(names[static_cast<size_t>(i)].c_str(), contents[static_cast<size_t>(i)].data(), field.type,
                            field.length);
    }
    const PluginFieldCollection collection{static_cast<int32_t>(fields.size()), fields.data()};
    plugin.reset();
    std::unique_ptr<IPluginV3> restored(creator->createPlugin("node", &collection, TensorRTPhase::kRUNTIME));
    REQUIRE(restored != nullptr, "createPlugin refuses what getFieldsToSerialize gave");

    std::vector<PluginTensorDesc> in, out;
    for (const Tensor& tensor : request.inputs) in.push_back(describe(tensor));
    for (const Tensor& tensor : outputs) out.push_back(describe(tensor));
    const auto nbInputs = static_cast<int32_t>(in.size());
    const auto nbOutputs = static_cast<int32_t>(out.size());

    std::vector<std::unique_ptr<IPluginV3>> contexts;
    for (int64_t i = 0; i < request.contexts; ++i) {
        auto& runtime = capability<IPluginV3OneRuntime>(*restored, PluginCapabilityType::kRUNTIME);
        contexts.emplace_back(runtime.attachToContext(nullptr));
        REQUIRE(contexts.back() != nullptr, "attachToContext fails");
    }
    std::vector<decltype(response.runs)> runs(contexts.size());
    std::vector<std::thread> threads;
    for (size_t c = 0; c < contexts.size(); ++c) {
        threads.emplace_back([&, c] {
            auto& runtime = capability<IPluginV3OneRuntime>(*contexts[c], PluginCapabilityType::kRUNTIME);
            cudaStream_t stream = nullptr;
            cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
            for (const uint64_t seed : request.seeds) {
                REQUIRE(runtime.onShapeChange(in.data(), nbInputs, out.data(), nbOutputs) == 0, "onShapeChange fails");
                cpu_cuda::setSeed(seed);
                const Buffers buffers(request, outputs, workspace, seed);
                const uint64_t before = cpu_cuda::launchCount();
                guarded([&] {
                    return runtime.enqueue(in.data(), out.data(), buffers.inputs.data(), buffers.outputs.data(),
                                           buffers.workspace, stream);
                });
                if (runs[c].empty()) response.launches = static_cast<int64_t>(cpu_cuda::launchCount() - before);
                runs[c].push_back(buffers.collect());
            }
            cudaStreamDestroy(stream);
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (auto& run : runs) response.runs.insert(response.runs.end(), run.begin(), run.end());
    contexts.clear();
    restored.reset();
}

}  // namespace driver
