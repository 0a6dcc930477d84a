// A C interface to one IPluginV3 at fixed shapes, for programs that measure: open, enqueue, close.
#define PLUGIN_AUTOGEN_INTERFACE 3
#define PLUGIN_AUTOGEN_TENSORRT_HEADERS 0
#include "nvinfer_interface.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

using namespace nvinfer1;

namespace
{

struct Opened
{
    std::unique_ptr<IPluginV3> plugin;
    IPluginV3OneRuntime* runtime{nullptr};
    std::vector<PluginTensorDesc> in;
    std::vector<PluginTensorDesc> out;
    int64_t workspace{0};
};

IPluginCreatorV3One* findCreator(char const* library, char const* name)
{
    void* const handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr)
    {
        std::fprintf(stderr, "%s\n", dlerror());
        return nullptr;
    }
    using GetCreators = IPluginCreatorInterface* const* (*) (int32_t&);
    auto const getCreators = reinterpret_cast<GetCreators>(dlsym(handle, "getCreators"));
    int32_t count = 0;
    IPluginCreatorInterface* const* const creators = getCreators == nullptr ? nullptr : getCreators(count);
    for (int32_t i = 0; i < count; ++i)
    {
        auto* const creator = static_cast<IPluginCreatorV3One*>(creators[i]);
        if (std::strcmp(creator->getPluginName(), name) == 0)
        {
            return creator;
        }
    }
    std::fprintf(stderr, "%s has no plugin %s\n", library, name);
    return nullptr;
}

} // namespace

// `types` (TensorRT's numbers), `ranks` and `dims` go through the inputs, then the outputs. Null when the plugin refuses.
extern "C" void* plugin_open(char const* library, char const* name, int32_t nbInputs, int32_t nbOutputs,
    int32_t const* types, int32_t const* ranks, int64_t const* dims)
{
    IPluginCreatorV3One* const creator = findCreator(library, name);
    if (creator == nullptr)
    {
        return nullptr;
    }
    PluginFieldCollection const none{0, nullptr};
    std::unique_ptr<IPluginV3> const made(creator->createPlugin("node", &none, TensorRTPhase::kBUILD));
    if (!made)
    {
        return nullptr;
    }
    auto opened = std::make_unique<Opened>();
    std::vector<DynamicPluginTensorDesc> ranges;
    for (int32_t i = 0; i < nbInputs + nbOutputs; ++i)
    {
        PluginTensorDesc desc{};
        desc.type = static_cast<DataType>(types[i]);
        desc.format = TensorFormat::kLINEAR;
        desc.scale = 1.0F;
        desc.dims.nbDims = ranks[i];
        for (int32_t axis = 0; axis < ranks[i]; ++axis)
        {
            desc.dims.d[axis] = *dims++;
        }
        (i < nbInputs ? opened->in : opened->out).push_back(desc);
        DynamicPluginTensorDesc range{};
        range.desc = desc;
        range.min = range.opt = range.max = desc.dims;
        ranges.push_back(range);
    }
    auto* const build = static_cast<IPluginV3OneBuild*>(made->getCapabilityInterface(PluginCapabilityType::kBUILD));
    for (int32_t i = 0; i < nbInputs + nbOutputs; ++i)
    {
        if (!build->supportsFormatCombination(i, ranges.data(), nbInputs, nbOutputs))
        {
            std::fprintf(stderr, "%s does not take tensor %d as it is\n", name, i);
            return nullptr;
        }
    }
    DynamicPluginTensorDesc const* const outputs = ranges.data() + nbInputs;
    if (build->configurePlugin(ranges.data(), nbInputs, outputs, nbOutputs) != 0)
    {
        return nullptr;
    }
    opened->workspace = static_cast<int64_t>(build->getWorkspaceSize(ranges.data(), nbInputs, outputs, nbOutputs));
    auto* const runtime
        = static_cast<IPluginV3OneRuntime*>(made->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
    opened->plugin.reset(runtime->attachToContext(nullptr));
    if (!opened->plugin)
    {
        return nullptr;
    }
    opened->runtime
        = static_cast<IPluginV3OneRuntime*>(opened->plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
    if (opened->runtime->onShapeChange(opened->in.data(), nbInputs, opened->out.data(), nbOutputs) != 0)
    {
        return nullptr;
    }
    return opened.release();
}

extern "C" int64_t plugin_workspace(void* plugin)
{
    return static_cast<Opened*>(plugin)->workspace;
}

extern "C" int32_t plugin_enqueue(
    void* plugin, void const* const* inputs, void* const* outputs, void* workspace, void* stream)
{
    auto* const opened = static_cast<Opened*>(plugin);
    return opened->runtime->enqueue(opened->in.data(), opened->out.data(), inputs, outputs, workspace,
        static_cast<cudaStream_t>(stream));
}

extern "C" void plugin_close(void* plugin)
{
    delete static_cast<Opened*>(plugin);
}
