// Drives an IPluginV2DynamicExt as TensorRT 8's builder and runtime do.
#define PLUGIN_AUTOGEN_INTERFACE 2
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

struct Destroy {
    void operator()(IPluginV2DynamicExt* plugin) const { plugin->destroy(); }
};
using Plugin = std::unique_ptr<IPluginV2DynamicExt, Destroy>;

IPluginCreator* findCreator(void* library, const std::string& name) {
    using GetCreators = IPluginCreator* const* (*)(int32_t&);
    const auto getCreators = reinterpret_cast<GetCreators>(dlsym(library, "getPluginCreators"));
    REQUIRE(getCreators != nullptr, "the library does not export getPluginCreators");
    REQUIRE(dlsym(library, "setLoggerFinder") != nullptr, "the library does not export setLoggerFinder");
    int32_t count = 0;
    IPluginCreator* const* creators = getCreators(count);
    for (int32_t i = 0; i < count; ++i) {
        if (name == creators[i]->getPluginName()) {
            REQUIRE(std::strcmp(creators[i]->getPluginVersion(), "1") == 0, "the plugin's version is not 1");
            creators[i]->setPluginNamespace("");
            REQUIRE(std::strcmp(creators[i]->getPluginNamespace(), "") == 0, "the plugin's namespace is not empty");
            REQUIRE(creators[i]->getFieldNames() != nullptr, "the creator has no list of fields");
            return creators[i];
        }
    }
    fail("the library has no plugin %s", name.c_str());
}

PluginTensorDesc& plainDesc(PluginTensorDesc& tensor) { return tensor; }

// A parser makes an IPluginV2; the top byte of getTensorRTVersion tells the dynamic ones.
Plugin dynamic(IPluginV2* plugin) {
    REQUIRE(plugin != nullptr, "the creator refuses to make the plugin");
    REQUIRE(static_cast<uint32_t>(plugin->getTensorRTVersion()) >> 24 == 3, "the plugin is no IPluginV2DynamicExt");
    return Plugin(static_cast<IPluginV2DynamicExt*>(plugin));
}

// The greatest tensors of the profile, as the builder asks for the workspace.
std::vector<PluginTensorDesc> greatest(const std::vector<Tensor>& tensors) {
    std::vector<PluginTensorDesc> all;
    for (const Tensor& tensor : tensors) {
        all.push_back(describe(tensor));
        all.back().dims = toDims(tensor.max);
    }
    return all;
}

size_t build(IPluginV2DynamicExt& plugin, const Request& request, std::vector<Tensor>& outputs) {
    REQUIRE(request.plugin == plugin.getPluginType(), "the plugin calls itself %s", plugin.getPluginType());
    const auto nbInputs = static_cast<int32_t>(request.inputs.size());
    const auto nbOutputs = static_cast<int32_t>(outputs.size());
    REQUIRE(plugin.getNbOutputs() == nbOutputs, "the plugin has %d outputs, expected %d", plugin.getNbOutputs(), nbOutputs);

    std::vector<DataType> types;
    for (const Tensor& tensor : request.inputs) types.push_back(static_cast<DataType>(tensor.type));
    REQUIRE(request.shapes.empty(), "IPluginV2DynamicExt knows no shape tensors");
    Expressions expressions;
    std::vector<DimsExprs> dims;
    for (const Tensor& tensor : request.inputs) dims.push_back(expressions.input(tensor));
    for (size_t i = 0; i < outputs.size(); ++i) {
        const auto index = static_cast<int32_t>(i);
        const DataType type = plugin.getOutputDataType(index, types.data(), nbInputs);
        REQUIRE(static_cast<int32_t>(type) == outputs[i].type, "output %zu has type %d, expected %d", i,
                static_cast<int>(type), outputs[i].type);
        checkOutput(plugin.getOutputDimensions(index, dims.data(), nbInputs, expressions), outputs[i], i);
    }

    std::vector<PluginTensorDesc> tensors;
    for (const Tensor& tensor : request.inputs) tensors.push_back(describeDynamic(tensor).desc);
    for (const Tensor& tensor : outputs) tensors.push_back(describeDynamic(tensor).desc);
    checkFormats<PluginTensorDesc>(
        tensors,
        [&](int32_t position, const PluginTensorDesc* all) {
            return plugin.supportsFormatCombination(position, all, nbInputs, nbOutputs);
        },
        &plainDesc);
    std::vector<DynamicPluginTensorDesc> in, out;
    for (const Tensor& tensor : request.inputs) in.push_back(describeDynamic(tensor));
    for (const Tensor& tensor : outputs) out.push_back(describeDynamic(tensor));
    plugin.configurePlugin(in.data(), nbInputs, out.data(), nbOutputs);
    return plugin.getWorkspaceSize(greatest(request.inputs).data(), nbInputs, greatest(outputs).data(), nbOutputs);
}

}  // namespace

void drive(void* library, const Request& request, Response& response) {
    IPluginCreator* const creator = findCreator(library, request.plugin);
    std::vector<PluginField> nodeFields;
    if (!request.fingerprint.empty()) {
        nodeFields.emplace_back("fingerprint", request.fingerprint.data(), PluginFieldType::kCHAR,
                                static_cast<int32_t>(request.fingerprint.size()));
    }
    const PluginFieldCollection nodeCollection{static_cast<int32_t>(nodeFields.size()), nodeFields.data()};
    Plugin created = dynamic(creator->createPlugin("node", &nodeCollection));
    created->setPluginNamespace("");
    Plugin plugin = dynamic(created->clone());
    created.reset();
    std::vector<Tensor> outputs = request.outputs;
    const size_t workspace = build(*plugin, request, outputs);
    response.workspace = static_cast<int64_t>(workspace);

    // Through the engine file.
    const size_t size = plugin->getSerializationSize();
    std::vector<unsigned char> blob(size + 64, 0xa5);
    plugin->serialize(blob.data());
    for (size_t i = size; i < blob.size(); ++i) REQUIRE(blob[i] == 0xa5, "serialize writes more than getSerializationSize");
    plugin.reset();
    const std::unique_ptr<unsigned char[]> exact(new unsigned char[size]);
    std::copy(blob.begin(), blob.begin() + static_cast<std::ptrdiff_t>(size), exact.get());
    Plugin restored = dynamic(creator->deserializePlugin("node", exact.get(), size));
    restored->setPluginNamespace("");
    REQUIRE(restored->initialize() == 0, "initialize fails");

    std::vector<PluginTensorDesc> in, out;
    std::vector<DynamicPluginTensorDesc> dynamicIn, dynamicOut;
    for (const Tensor& tensor : request.inputs) in.push_back(describe(tensor)), dynamicIn.push_back(describeDynamic(tensor));
    for (const Tensor& tensor : outputs) out.push_back(describe(tensor)), dynamicOut.push_back(describeDynamic(tensor));
    const auto nbInputs = static_cast<int32_t>(in.size());
    const auto nbOutputs = static_cast<int32_t>(out.size());

    // Each context runs a clone of the engine's plugin.
    std::vector<Plugin> contexts;
    for (int64_t i = 0; i < request.contexts; ++i) {
        contexts.push_back(dynamic(restored->clone()));
        contexts.back()->attachToContext(nullptr, nullptr, nullptr);
        contexts.back()->configurePlugin(dynamicIn.data(), nbInputs, dynamicOut.data(), nbOutputs);
        REQUIRE(contexts.back()->initialize() == 0, "initialize of a context's clone fails");
    }
    std::vector<decltype(response.runs)> runs(contexts.size());
    std::vector<std::thread> threads;
    for (size_t c = 0; c < contexts.size(); ++c) {
        threads.emplace_back([&, c] {
            cudaStream_t stream = nullptr;
            cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
            for (const uint64_t seed : request.seeds) {
                cpu_cuda::setSeed(seed);
                const Buffers buffers(request, outputs, workspace, seed);
                const uint64_t before = cpu_cuda::launchCount();
                guarded([&] {
                    return contexts[c]->enqueue(in.data(), out.data(), buffers.inputs.data(), buffers.outputs.data(),
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
    for (Plugin& context : contexts) {
        context->terminate();
        context->detachFromContext();
    }
    contexts.clear();
    restored->terminate();
    restored.reset();
}

}  // namespace driver
